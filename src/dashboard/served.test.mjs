// Every module of the page as it is served against what is written: it parses, and its syntax tree differs in the names of variables
// alone, one to one. Run by the crate's tests: node --expose-internals --experimental-vm-modules served.test.mjs FOLDER_OF_WHAT_IS_SERVED

import test from "node:test";
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { SourceTextModule } from "node:vm";

const written = fileURLToPath(new URL("./assets/", import.meta.url)), served = process.argv[2];
const names = readdirSync(written, { recursive: true }).filter((name) => name.endsWith(".js"));

/** The parser that Node carries for itself; versions without it still parse every module. */
function parser() {
  try {
    return createRequire(import.meta.url)("internal/deps/acorn/acorn/dist/acorn").parse;
  } catch {
    return null;
  }
}

const parse = parser(), tree = (source) => parse(source, { ecmaVersion: "latest", sourceType: "module" });

/** Names that belong to the outside: keys, properties, members, what is imported and exported. */
const isFixed = (node, key) => !node.computed && ((key === "property" && node.type === "MemberExpression") || (key === "key" && /^(Property|MethodDefinition|PropertyDefinition)$/.test(node.type)) || key === "imported" || key === "exported");

/** Fails unless the trees are equal but for names of variables, which `map` learns and `back` keeps apart. */
function compare(a, b, where, map, back, fixed) {
  if (Array.isArray(a) || a === null || typeof a !== "object" || a instanceof RegExp) {
    if (Array.isArray(a)) {
      assert.equal(b.length, a.length, where);
      a.forEach((one, i) => compare(one, b[i], `${where}[${i}]`, map, back));
    } else assert.equal(String(b), String(a), where);
    return;
  }
  assert.equal(b?.type, a.type, where);
  if (a.type === "Identifier" && !fixed) {
    if (!map.has(a.name)) map.set(a.name, b.name);
    if (!back.has(b.name)) back.set(b.name, a.name);
    return assert.deepEqual([b.name, a.name], [map.get(a.name), back.get(b.name)], where);
  }
  for (const key of Object.keys(a)) if (!["start", "end", "shorthand"].includes(key)) compare(a[key], b[key], `${where}.${key}`, map, back, isFixed(a, key));
}

function bound(pattern) {
  if (!pattern) return [];
  const { type } = pattern;
  if (type === "Identifier") return [pattern.name];
  return [pattern.left, pattern.argument, ...(pattern.elements || []), ...(pattern.properties || []).map((one) => one.value || one.argument)].flatMap(bound);
}

/** What a statement, a loop or a function declares for what lies within. */
function declared(node) {
  const one = node.declaration || node;
  if (one.type === "VariableDeclaration") return one.declarations.flatMap((each) => bound(each.id));
  return [...(/Declaration$/.test(one.type) ? bound(one.id) : []), ...(node.specifiers || []).flatMap((each) => bound(each.local))];
}

/** The names that a module uses and does not declare: those of the platform. */
function free(node, scopes = [], found = new Set(), fixed = false) {
  if (node === null || typeof node !== "object") return found;
  if (Array.isArray(node)) {
    for (const one of node) free(one, scopes, found);
    return found;
  }
  if (node.type === "Identifier" && !fixed && !scopes.some((scope) => scope.has(node.name))) found.add(node.name);
  const parts = [...(Array.isArray(node.body) ? node.body : []), ...(node.cases || []).flatMap((one) => one.consequent), node.init, node.left].filter(Boolean);
  const inner = [...scopes, new Set([...parts.flatMap(declared), ...(node.params || []).flatMap(bound), ...bound(node.param), ...(/Function|Class/.test(node.type) ? bound(node.id) : [])])];
  for (const key of Object.keys(node)) free(node[key], inner, found, isFixed(node, key));
  return found;
}

test("every module parses", () => {
  assert.ok(names.length > 20);
  for (const name of names) new SourceTextModule(readFileSync(join(served, name), "utf8"), { identifier: name });
});

test("the comparison sees what matters", { skip: !parse && "this Node carries no parser" }, () => {
  const differ = (a, b) => assert.throws(() => compare(tree(a), tree(b), "", new Map(), new Map()));
  differ("a = b\n(c)", "a = b;(c)");
  differ("const a = 1, b = 2; f(a)", "const x = 1, x2 = 2; f(x2)");
  differ("a.b", "a.c");
  differ("({ a })", "({ x: a })");
  differ("`a  b`", "`a b`");
  compare(tree("const a = { b }, c = /x y/g;"), tree("const q={b:b2},d=/x y/g"), "", new Map(), new Map());
  assert.deepEqual([...free(tree("import { a } from 'a'; for (const b of a) try { let d = b; go(d, { e: f }); } catch (x) { x.y(z); } const q = ({ r: [s] }, ...t) => r(s, t);"))].sort(), ["f", "go", "r", "z"]);
});

test("every module differs from its source in names of variables alone", { skip: !parse && "this Node carries no parser" }, () => {
  for (const name of names) {
    const [source, compact] = [written, served].map((folder) => readFileSync(join(folder, name), "utf8"));
    assert.ok(compact.length <= source.length, name);
    compare(tree(source), tree(compact), name, new Map(), new Map());
    assert.deepEqual([...free(tree(compact))].sort(), [...free(tree(source))].sort(), `${name} takes other names from the platform`);
  }
});
