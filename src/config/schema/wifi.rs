//! Settings of WiFi sessions, spaces and occupancy.

use super::super::reader::settings;
use super::super::values::{OccupancySource, Options, PseudonymPolicy, RandomizedPolicy, Secret};
use desireline_records::Horizon;
use std::path::PathBuf;
use std::time::Duration;

settings! {
    /// WiFi sessions: which devices were where, and what is counted of them.
    Wifi {
        /// The source that WiFi sessions are rows of. A `[[source]]` block of this number with the format "wifi" reads them from Kafka.
        source_id: u32 = default "2000" in "0"..="2147483647";
        /// A session without an end is taken to last to the end of the quarter of an hour under way, but at most so long.
        max_open: Duration = default "12h" in "1m"..="31d";
        /// A longer session is refused.
        max_session: Duration = default "31d" in "1m"..="366d";
        /// Widths of the bins that are kept, in seconds: of 900, 1800, 3600, 7200, 14400, 28800 and 86400. Others are counted on demand.
        intervals: Vec<u32> = default "900, 3600, 86400";
        /// Sessions of a device in a space that follow one another within this time are one visit.
        visit_gap: Duration = default "10m" in "0s"..="1d";
        /// A device that appears in another space within this time has moved there.
        move_gap: Duration = default "1h" in "0s"..="1d";
        /// Refuses ids that are not MAC addresses; otherwise they are taken as they are.
        strict_mac: bool = default "false";
        /// Devices with randomised MAC addresses: "count" them, or "exclude" them from every answer. They are counted apart in any case.
        randomized: RandomizedPolicy = default "count";
        /// "keyed": MAC addresses are replaced by a keyed hash before they reach the log. "off": they are kept.
        pseudonyms: PseudonymPolicy = default "keyed";
        /// The keys of the hash, one per line, the one in force first. Made at the first start. Default: `mac.keys` in the data folder.
        key_file: Option<PathBuf> = unset "/etc/desireline/mac.keys";
        /// Sessions that ended longer ago are sealed, by whole days: they leave memory for the cold parts. "off" keeps all in memory. A row
        /// for a sealed day is pending until its device's history has been read, and then counts like any other.
        horizon: Horizon = default "off";
        /// Sealed sessions older than this are removed from the cold parts, and `max_session` later from the log; what was counted stays.
        /// Unset: they are kept.
        retention: Option<Duration> = unset "365d" in "1d"..="36500d";
        /// Counts below this, but above zero, are withheld. 0: none are.
        k_anonymity: u32 = default "0" in "0"..="1000000";
        /// Most sessions in one request of `POST /api/wifi-sessions`.
        batch_sessions_max: usize = default "10000" in "1"..="1000000";
        /// Most spaces of the tree.
        spaces_max: usize = default "100000" in "1"..="10000000";
        /// Devices whose sealed sessions come back into memory together.
        reopen_devices_max: usize = default "1000" in "1"..="1000000";
        /// How often pending rows are looked at.
        reopen_every: Duration = default "5s" in "100ms"..="1d";
        /// Memory for sealed cells that queries have read.
        cell_cache: super::super::values::Size = default "64MiB" in "0B"..="64GiB";
        /// Shares of a space's capacity at which an `occupancy_change` alert is given, in percent.
        alert_percent: Vec<u32> = default "80, 100";
        /// `host:port` of brokers that receive alerts. None: alerts go to the live stream only.
        alert_brokers: Vec<String> = default "";
        /// The topic of alerts.
        alert_topic: String = default "occupancy-alerts";
    }

    /// Occupancy datasets (`/occupancy/datasets`) and the database that they may be made of.
    Occupancy {
        /// "live": datasets and `/spaces` are made of the sessions and spaces of the log. "external": of the tables of `database_url`.
        /// Default: "external" when `database_url` or the variable TIPPERS_DB_URL is set.
        source: Option<OccupancySource> = unset "live";
        /// A PostgreSQL database with the tables `space` and `user_ap_trajectory`; only ever read. The variable TIPPERS_DB_URL does the
        /// same. Never printed.
        database_url: Option<Secret> = unset "postgres://reader@db.example/tippers";
        /// PEM file with certificates that are trusted besides the system's.
        database_tls_ca: Option<PathBuf> = unset "/etc/desireline/postgres-ca.pem";
        /// A statement that takes longer is cancelled by the server of the database.
        statement_timeout: Duration = default "5m" in "100ms"..="1d";
        /// Connections to it.
        pool_max: usize = default "4" in "1"..="1000";
        /// Where the chunks are written: a folder or a URL such as `s3://bucket/prefix`. Default: `datasets` in the data folder.
        store_url: Option<String> = unset "s3://bucket";
        /// Options of the object store, by object_store's names. Never printed.
        store_options: Options = default "";
        /// How often finished chunks are looked at whose sessions have changed since (live).
        refresh_every: Duration = default "10s" in "100ms"..="1d";
        /// Most chunks of one dataset.
        chunks_max: usize = default "100000" in "1"..="10000000";
    }
}
