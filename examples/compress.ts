import { comparison, compress, int8, load, magnitude, openData, save } from "pith";

const model = load("model.onnx");
const train = await openData("train.npz"); // arrays named as the model's inputs, and "labels"
const test = await openData("test.npz");
const prune = magnitude({ sparsity: 0.9, schedule: "cubic", epochs: 5 });
const { model: small, run } = await compress(model, [prune, int8({ mode: "static" })], { train, data: test, maxDrop: 1 });
save(small, "small.onnx");
console.log(
  comparison([
    { name: "before", measured: run.before },
    { name: "after", measured: run.after },
  ]),
);
