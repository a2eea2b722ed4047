// Pure functions of frames and rows: no document, so that tests need none.

export const MINUTE = 60000, DAY = 1440 * MINUTE;

export class SseParser {
	rest = "";
	id = "";
	event = "message";
	data = [];

	push(piece) {
		// A lone \r at the end may be the first half of \r\n: it waits for the next piece.
		const done = [], lines = (this.rest + piece).split(/\r\n|\n|\r(?!$)/);
		this.rest = lines.pop();
		for (const line of lines) {
			if (line) {
				const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
				if (field === "data") this.data.push(value);
				else if (field === "event" || field === "id") this[field] = value;
			} else {
				if (this.data.length) done.push({ event: this.event, data: this.data.join("\n"), id: this.id });
				this.event = "message";
				this.data = [];
			}
		}
		return done;
	}
}

export const backoffMs = (attempt, random = Math.random()) => Math.round(Math.min(30000, 500 * 2 ** attempt) * (0.5 + random / 2));

export const sum = (list, of) => list.reduce((all, one) => all + of(one), 0);
export const steps = (from, to, step) => Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, i) => from + i * step);

export const add = (map, key, n = 1) => map.set(key, (map.get(key) || 0) + n);
export const clamp = (v, low, high) => Math.max(low, Math.min(high, v));

export function under(map, key, make) {
	if (!map.has(key)) map.set(key, make());
	return map.get(key);
}

export class Minutes {
	constructor(keepMinutes = 60, capCells = 200000) {
		Object.assign(this, { keepMinutes, capCells, buckets: new Map(), cells: 0, newest: 0 });
	}

	apply(cells, snapshot, at, parseTime) {
		const before = this.buckets, fixes = [];
		if (snapshot) Object.assign(this, { buckets: new Map(), cells: 0 });
		for (const { source_id: source, page, event_type: type, count, revenue, before: said, correction, window_start } of cells) {
			const t = parseTime(window_start), key = `${source}\u0000${type}\u0000${page}`;
			if (t === null) continue;
			this.newest = Math.max(this.newest, t);
			const bucket = under(this.buckets, t, () => ({ cells: new Map() })), old = bucket.cells.get(key), cell = { source, page, type, count, revenue: Number(revenue) || 0, fix: before.get(t)?.cells.get(key)?.fix };
			if (correction && !snapshot) {
				const was = said ?? old?.count ?? 0;
				cell.fix = { before: old?.fix && at - old.fix.at < 5 * MINUTE ? old.fix.before : was, at };
				fixes.push({ at, t, source, page, type, before: was, after: count });
			}
			bucket.sums = null;
			if (count === 0 && !cell.fix) this.cells -= bucket.cells.delete(key);
			else {
				this.cells += !old;
				bucket.cells.set(key, cell);
			}
		}
		for (const t of [...this.buckets.keys()].sort((a, b) => a - b)) {
			if (t >= this.newest - this.keepMinutes * MINUTE && this.cells <= this.capCells) break;
			this.cells -= this.buckets.get(t).cells.size;
			this.buckets.delete(t);
		}
		return fixes;
	}

	sums(t, filter) {
		const bucket = this.buckets.get(t), tag = `${filter.source} ${filter.page}`;
		if (!bucket || bucket.sums?.tag === tag) return bucket?.sums ?? null;
		const out = { tag, count: 0, revenue: 0, types: new Map(), before: 0, fixedAt: 0 };
		for (const c of bucket.cells.values()) {
			if (!admits(filter, c)) continue;
			out.count += c.count;
			out.revenue += c.revenue;
			out.before += c.fix ? c.fix.before : c.count;
			out.fixedAt = Math.max(out.fixedAt, c.fix?.at || 0);
			add(out.types, c.type, c.count);
		}
		return (bucket.sums = out);
	}

	ranking(field, filter, from, to, now, markMs = MINUTE) {
		const rows = new Map();
		for (const [t, bucket] of this.buckets) {
			if (t < from || t >= to) continue;
			for (const c of bucket.cells.values()) {
				if (!admits(filter, c)) continue;
				const row = under(rows, c[field], () => ({ key: c[field], count: 0, revenue: 0, before: 0, fixedAt: 0 })), fresh = c.fix && now - c.fix.at < markMs;
				row.count += c.count;
				row.revenue += c.revenue;
				row.before += fresh ? c.fix.before : c.count;
				if (fresh) row.fixedAt = Math.max(row.fixedAt, c.fix.at);
			}
		}
		return [...rows.values()].filter((r) => r.count !== 0 || r.fixedAt).sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1));
	}
}

const admits = (filter, c) => (filter.source ?? c.source) === c.source && (filter.page || c.page) === c.page;

export class Watch {
	seen = new Map();
	fixes = new Map();

	look(key, n, at) {
		const was = this.seen.get(key);
		if (this.seen.size > 100000) this.seen.clear();
		this.seen.set(key, n);
		if (was !== undefined && was !== n) this.fixes.set(key, { before: this.fixes.get(key)?.before ?? was, after: n, at });
		return this.fixes.get(key);
	}
}

export function treeRows(spaces, chosen) {
	const known = new Map(spaces.map((one) => [one.space_id, one])), kids = new Map(), rows = [];
	const climb = (one) => {
		const way = new Set();
		for (; one && !way.has(one); one = known.get(one.parent_space_id)) way.add(one);
		return { way, circle: !!one };
	};
	for (const one of spaces) under(kids, known.has(one.parent_space_id) && !climb(one).circle ? one.parent_space_id : null, () => []).push(one);
	const { way } = climb(known.get(chosen));
	const walk = (key, depth) => {
		for (const one of kids.get(key) || []) {
			rows.push({ ...one, depth, children: kids.get(one.space_id)?.length || 0, orphan: key === null && one.parent_space_id !== null });
			if (way.has(one)) walk(one.space_id, depth + 1);
		}
	};
	walk(null, 0);
	return { rows, way: [...way].reverse() };
}

export const hourOfWeek = (t) => Math.floor((t / 3600e3 + 72) % 168);

export function ticks(max, count = 4) {
	if (!(max > 0)) return [0, 1];
	const raw = max / count, magnitude = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((m) => m * magnitude >= raw * 0.999) * magnitude, out = [];
	for (let v = 0; v < max + step * 0.999; v += step) out.push(+v.toPrecision(12));
	return out;
}

export function lattice(max, slots) {
	const top = Math.max(1, Math.ceil(max));
	for (let ratio = 1; ; ratio = ratio === 1 ? 1.01 : 1 + (ratio - 1) * 1.3) {
		const out = [0];
		for (let last = 0; last < top && out.length <= slots; out.push(last)) last = Math.max(last + 1, Math.ceil(last * ratio));
		if (out.at(-1) >= top) return out;
	}
}

export function slotOf(grid, v) {
	let low = 0, high = grid.length - 1;
	while (low < high) {
		const mid = (low + high + 1) >> 1;
		if (grid[mid] <= v) low = mid;
		else high = mid - 1;
	}
	return low;
}

export function placeOn(grid, v) {
	const i = slotOf(grid, v);
	return i + 1 < grid.length ? i + clamp((v - grid[i]) / (grid[i + 1] - grid[i]), 0, 1) : i;
}

export function tally(journeys, users) {
	const out = new Map();
	for (const u of users) add(out, journeys[u].cluster_id ?? -1);
	return [...out].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
}

export function desireLines(journeys, slotsX = 64, slotsY = 32) {
	const most = (k) => journeys.reduce((max, j) => Math.max(max, j.state[k]), 1);
	const xs = lattice(most(0), slotsX), ys = lattice(most(1), slotsY), pieces = new Map(), buys = new Map(), stretches = [], W = 4096;
	const note = (map, key, user) => {
		const users = under(map, key, () => []);
		if (users.at(-1) !== user) users.push(user);
	};
	journeys.forEach((journey, user) => {
		let x = 0, y = 0;
		for (const [views, carts, bought] of journey.paths) {
			const i0 = slotOf(xs, x), j0 = slotOf(ys, y), i1 = slotOf(xs, (x += Math.max(0, views))), j1 = slotOf(ys, (y += Math.max(0, carts)));
			for (let i = i0; i < i1; i++) note(pieces, j0 * W + i, user);
			for (let j = j0; j < j1; j++) note(pieces, W * W + i1 * W + j, user);
			if (bought > 0) note(buys, j1 * W + i1, user);
		}
	});
	const dominant = (users) => tally(journeys, users)[0][0];
	let run = null;
	for (const [key, users] of [...pieces].sort((a, b) => a[0] - b[0])) {
		if (run && key === run.next && users.length === run.users.length && users.every((u, i) => u === run.users[i])) run.next++;
		else stretches.push((run = { key, next: key + 1, users }));
	}
	return {
		xs, ys,
		stretches: stretches.map(({ key, next, users }) => {
			const up = key >= W * W, k = up ? key - W * W : key, across = Math.floor(k / W), from = k % W, to = from + next - key;
			return { ...(up ? { x0: across, y0: from, x1: across, y1: to } : { x0: from, y0: across, x1: to, y1: across }), users, cluster: dominant(users) };
		}).sort((a, b) => a.users.length - b.users.length),
		buys: [...buys].map(([key, users]) => ({ x: key % W, y: Math.floor(key / W), users, cluster: dominant(users) })),
	};
}

export const TERMS = ["applied", "duplicate", "late", "pending", "quarantined", "rejected"];

export function law(counters) {
	const right = sum(TERMS, (term) => counters[term]);
	return { right, off: counters.received - right };
}

export const clusterClass = (id) => (id === null || id === undefined || id < 0 ? "c0" : `c${(id % 6) + 1}`);
