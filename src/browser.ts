/** pith as a library, as far as it needs no files: what a browser gets. Node's entry, index.ts, adds those. */

export { type Batch, type Dataset, fromArrays, fromFeeds, subset } from "./data/dataset.ts";
export { choice, flag, int, number, optional, text } from "./data/params.ts";
export { check } from "./ir/check.ts";
export type { Attr, Dim, Graph, Model, Node, TensorType, Value } from "./ir/graph.ts";
export { cloneModel, newModel } from "./ir/graph.ts";
export { printGraph, printModel } from "./ir/print.ts";
export { type Selector, select } from "./ir/select.ts";
export { readModel } from "./onnx/read.ts";
export { writeModel } from "./onnx/write.ts";
export { Build } from "./ops/build.ts";
export { parseRecipe, parseStep, type Recipe, type RecipeJson, recipeJson, stepText } from "./recipe/recipe.ts";
export type { Run, StepRecord } from "./recipe/run.ts";
export { version } from "./recipe/version.ts";
export { type Summary, summarize } from "./report/summary.ts";
export { type Column, table } from "./report/table.ts";
export { open, type Port, type Session, type SessionOptions } from "./runtime/session.ts";
export { observeShapes, sampleFeeds } from "./runtime/shapes.ts";
export * from "./techniques/index.ts";
export type { Context, Progress, Step, Technique } from "./techniques/technique.ts";
export { defineTechnique } from "./techniques/technique.ts";
export { Fault } from "./tensor/fault.ts";
export { numbersOf, type Tensor, tensor } from "./tensor/tensor.ts";
