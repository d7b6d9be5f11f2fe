/** pith as a library in Node: everything a browser gets, and files. */
export * from "./browser.ts";
export { openData } from "./data/open.node.ts";
export { fileBytes, load, save } from "./onnx/file.ts";
