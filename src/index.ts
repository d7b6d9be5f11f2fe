/** pith as a library in Node: everything a browser gets, and files. */
export * from "./browser.ts";
export { fileBytes, load, save } from "./onnx/file.ts";
