import { expect, test } from "vitest";
import { type Dim, newModel } from "../../src/ir/graph.ts";
import type { DType } from "../../src/tensor/dtype.ts";
import { integersOf, tensor } from "../../src/tensor/tensor.ts";
import { inputsFor } from "../../src/transformers/inputs.ts";

type Inputs = Readonly<Record<string, readonly [DType, readonly Dim[]]>>;

/** The shapes of each set made up for a session file of these inputs. */
function shapes(base: string, inputs: Inputs, config: object): Record<string, string>[] {
  const model = newModel(base);
  for (const [name, [dtype, shape]] of Object.entries(inputs)) model.graph.input(name, dtype, shape);
  return inputsFor(model, base, config as never).map((set) =>
    Object.fromEntries(Object.entries(set).map(([name, t]) => [name, t.shape.join("x")])),
  );
}

const [b, s] = ["batch_size", "sequence_length"];

test("encoders of text", () => {
  expect(
    shapes("model", { input_ids: ["int64", [b, s]], attention_mask: ["int64", [b, s]], token_type_ids: ["int64", [b, s]] }, {}),
  ).toEqual([{ input_ids: "1x16", attention_mask: "1x16", token_type_ids: "1x16" }]);
  // No more tokens than there are positions.
  expect(shapes("model", { input_ids: ["int64", [b, s]] }, { max_position_embeddings: 8 })).toEqual([{ input_ids: "1x7" }]);
});

test("images, and the sizes their models are made for", () => {
  const pixels: Inputs = { pixel_values: ["float32", [b, "num_channels", "height", "width"]] };
  expect(shapes("model", pixels, {})).toEqual([{ pixel_values: "1x3x224x224" }]);
  expect(shapes("vision_model", pixels, { vision_config: { image_size: 336 } })).toEqual([{ pixel_values: "1x3x336x336" }]);
});

test("speech: spectra of an encoder, samples of a waveform model", () => {
  const config = { num_mel_bins: 80, max_source_positions: 1500, d_model: 384 };
  expect(shapes("encoder_model", { input_features: ["float32", [b, "feature_size", "encoder_sequence_length"]] }, config)).toEqual([
    { input_features: "1x80x3000" },
  ]);
  expect(shapes("model", { input_values: ["float32", [b, s]] }, {})).toEqual([{ input_values: "1x16000" }]);
});

test("a merged decoder of an encoder-decoder: both branches, caches of both attentions", () => {
  const inputs: Inputs = {
    encoder_attention_mask: ["int64", [b, "encoder_sequence_length"]],
    input_ids: ["int64", [b, "decoder_sequence_length"]],
    encoder_hidden_states: ["float32", [b, "encoder_sequence_length", 384]],
    "past_key_values.0.decoder.key": ["float32", [b, 6, "past_decoder_sequence_length", 64]],
    "past_key_values.0.encoder.value": ["float32", [b, 6, "encoder_sequence_length_out", 64]],
    use_cache_branch: ["bool", [1]],
  };
  expect(shapes("decoder_model_merged", inputs, { d_model: 384 })).toEqual([
    {
      encoder_attention_mask: "1x16",
      input_ids: "1x16",
      encoder_hidden_states: "1x16x384",
      "past_key_values.0.decoder.key": "1x6x0x64",
      "past_key_values.0.encoder.value": "1x6x16x64",
      use_cache_branch: "1",
    },
    {
      encoder_attention_mask: "1x16",
      input_ids: "1x1",
      encoder_hidden_states: "1x16x384",
      "past_key_values.0.decoder.key": "1x6x4x64",
      "past_key_values.0.encoder.value": "1x6x16x64",
      use_cache_branch: "1",
    },
  ]);
});

test("decoders with a cache: at the start and after, masks over both, positions that go on", () => {
  const inputs: Inputs = {
    input_ids: ["int64", [b, s]],
    attention_mask: ["int64", [b, "total_sequence_length"]],
    position_ids: ["int64", [b, s]],
    "past_key_values.0.key": ["float32", [b, 3, "past_sequence_length", 64]],
  };
  expect(shapes("model", inputs, { vocab_size: 100 })).toEqual([
    { input_ids: "1x16", attention_mask: "1x16", position_ids: "1x16", "past_key_values.0.key": "1x3x0x64" },
    { input_ids: "1x1", attention_mask: "1x5", position_ids: "1x1", "past_key_values.0.key": "1x3x4x64" },
  ]);
  expect(shapes("decoder_with_past_model", inputs, { vocab_size: 100 }).length).toBe(1);
  const open: Inputs = { ...inputs, "past_key_values.0.key": ["float32", [b, "kv_heads", "past_sequence_length", "head_dim"]] };
  const config = { vocab_size: 100, hidden_size: 256, num_attention_heads: 8, num_key_value_heads: 2 };
  expect(shapes("model", open, config)[1]!["past_key_values.0.key"]).toBe("1x2x4x32");
});

test("embeddings in place of ids, positions on three axes", () => {
  const inputs: Inputs = {
    inputs_embeds: ["float32", [b, s, "hidden_size"]],
    attention_mask: ["int64", [b, "past_sequence_length + sequence_length"]],
    position_ids: ["int64", [3, b, s]],
  };
  expect(shapes("decoder_model_merged", inputs, { text_config: { hidden_size: 96 } })).toEqual([
    { inputs_embeds: "1x16x96", attention_mask: "1x16", position_ids: "3x1x16" },
  ]);
});

test("ids are of the table they go to", () => {
  const model = newModel("x");
  const ids = model.graph.input("input_ids", "int64", [b, s]);
  const table = model.graph.initializer("table", tensor("float32", [3, 2], new Float32Array(6)));
  model.graph.addOutput(model.graph.append("Gather", [table, ids]).outputs[0]!);
  const [set] = inputsFor(model, "model", { vocab_size: 30_000 });
  const drawn = new Set(integersOf(set!.input_ids!));
  expect([...drawn].sort()).toEqual([0, 1, 2]);
});
