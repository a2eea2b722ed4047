// What pages and charts are made of, in one place.

export * from "./dom.js";
export * from "./panel.js";
export * from "./state.js";
export * from "./api.js";
export * from "./router.js";
export * from "./fold.js";
export * from "./format.js";
export * from "./pages/common.js";
