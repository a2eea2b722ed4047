// Elements are made here alone, by createElement: data stays text.

export function attrs(el, values) {
	for (const [key, value] of Object.entries(values)) {
		if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
		else if ((value ?? false) === false) el.removeAttribute(key);
		else el.setAttribute(key, value === true ? "" : value);
	}
	return el;
}

function add(el, kids) {
	for (const kid of kids.flat(Infinity)) if ((kid ?? false) !== false) el.append(kid);
	return el;
}

const maker = (create) => (name, ...kids) => {
	const [tag, ...classes] = name.split("."), el = create(tag);
	if (classes.length) el.setAttribute("class", classes.join(" "));
	if (kids[0]?.constructor === Object) attrs(el, kids.shift());
	return add(el, kids);
};

export const h = maker((tag) => document.createElement(tag));
export const s = maker((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));

export const byId = (id) => document.getElementById(id);

export function fill(el, ...kids) {
	el.replaceChildren();
	return add(el, kids);
}

export function text(el, value) {
	if (el.textContent !== value) el.textContent = value;
}

export function keyed(parent, rows, keyOf, create, set) {
	const old = parent.keyedNodes || new Map(), now = (parent.keyedNodes = new Map());
	let at = parent.firstChild;
	for (const row of rows) {
		const key = keyOf(row), node = old.get(key) || create(row);
		set?.(node, row);
		now.set(key, node);
		if (node === at) at = at.nextSibling;
		else parent.insertBefore(node, at);
	}
	for (const [key, node] of old) if (now.get(key) !== node) node.remove();
}

export function flash(el) {
	el.classList.remove("flash");
	void el.offsetWidth;
	el.classList.add("flash");
	el.addEventListener("animationend", () => el.classList.remove("flash"), { once: true });
}

export function showTip(x, y, title, rows, note, aloud) {
	const box = byId("tip");
	fill(box, h("b", title), rows.map(([label, value, c = "none"]) => h(`div.row.${c}`, h("span", label), h("span", value))), note && h("div", note));
	box.hidden = false;
	const { offsetWidth: w, offsetHeight: tall } = box;
	box.style.left = `${Math.max(4, x + 14 + w > innerWidth ? x - 14 - w : x + 14)}px`;
	box.style.top = `${Math.max(4, Math.min(innerHeight - tall - 4, y - tall / 2))}px`;
	if (aloud) byId("say").textContent = [title, ...rows.map((r) => `${r[0]} ${r[1]}`), note].filter(Boolean).join(", ");
}

export const hideTip = () => (byId("tip").hidden = true);

export function tips(node, words, label = null) {
	const tell = (e) => {
		const box = node.getBoundingClientRect();
		showTip(e.clientX ?? box.right, e.clientY ?? box.top + box.height / 2, ...words());
	};
	return attrs(node, { tabindex: 0, role: label && "img", "aria-label": label, onpointermove: tell, onfocus: tell, onpointerleave: hideTip, onblur: hideTip });
}
