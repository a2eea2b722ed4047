# shellcheck shell=bash
# Apache Kafka: one node in KRaft mode, broker and controller in one process.

kafka_variable() { echo KAFKA_BROKERS; }
kafka_url() { echo "127.0.0.1:$(port kafka)"; }
kafka_exports() { echo "export KAFKA_BROKERS=$1"; }

kafka_configure() {
    local folder=$1
    # Tests make clocks that run years ahead, hence the wide time window; few internal partitions, because each costs files and start time.
    # A killed broker may register again only once its session has timed out, hence the short one.
    cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(port kafka controller_port)
listeners=PLAINTEXT://127.0.0.1:$(port kafka),CONTROLLER://127.0.0.1:$(port kafka controller_port)
advertised.listeners=PLAINTEXT://127.0.0.1:$(port kafka)
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.message.timestamp.after.max.ms=9223372036854775807
log.retention.ms=-1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=8388608
file.delete.delay.ms=1000
num.network.threads=2
num.io.threads=2
background.threads=2
PROPERTIES
    cat >"$folder/log4j2.xml" <<'LOG4J'
<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %m (%c{1})%n"/></Console></Appenders>
  <Loggers>
    <Logger name="kafka.server" level="INFO"/>
    <Root level="WARN"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
LOG4J
}

kafka_java() {
    local folder=$1
    shift
    # Serial collector and first-tier compiler: a single small broker starts in half the time.
    echo java -Xms96m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true \
        "-Dlog4j2.configurationFile=$folder/log4j2.xml" -cp "$KAFKA_JARS/*" "$@"
}

kafka_start() {
    local folder command
    folder=$(folder kafka)
    kafka_configure "$folder"
    if [ ! -e "$folder/data/meta.properties" ]; then
        mkdir -p "$folder/data"
        read -ra command <<<"$(kafka_java "$folder" kafka.tools.StorageTool format --cluster-id "ZGVzaXJlbGluZS10ZXN0cw" \
            --config "$folder/server.properties")"
        "${command[@]}" >>"$folder/log" 2>&1 || return 1
    fi
    # Readiness is read from the log of this start alone.
    [ ! -s "$folder/log" ] || mv "$folder/log" "$folder/log.$(date +%s%N)"
    read -ra command <<<"$(kafka_java "$folder" kafka.Kafka "$folder/server.properties")"
    launch kafka "${command[@]}"
}

# The broker writes this line once it is registered and unfenced, which is when clients get answers.
kafka_ready() { grep -q 'Kafka Server started' "$STATE/kafka/log" && listening 127.0.0.1 "$(port kafka)"; }

kafka_prepare() { :; }
