/** A word-piece vocabulary from texts, and a tokenizer's files for it in Hugging Face's format. */

const special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] as const;

/** Words as BERT's pre-tokenizer cuts them: lower case without accents, punctuation apart. */
function words(text: string): string[] {
  const plain = text
    .normalize("NFD")
    .replace(/\p{Mn}/gu, "")
    .toLowerCase();
  return plain.match(/[\p{P}$+<=>^`|~]|[^\p{P}$+<=>^`|~\s]+/gu) ?? [];
}

/**
 * The pieces that merging the most frequent neighbours gives (Sennrich et al. 2016), from characters up to `size` pieces; pieces inside a
 * word begin with "##". Ties go to the pair that is first in order of code points.
 */
export function vocabulary(texts: readonly string[], size: number): string[] {
  const counts = new Map<string, number>();
  for (const t of texts) for (const w of words(t)) if (w.length <= 24) counts.set(w, (counts.get(w) ?? 0) + 1);
  const cut = [...counts].filter(([, n]) => n >= 3).map(([w, n]) => ({ n, pieces: [...w].map((c, i) => (i ? `##${c}` : c)) }));
  const single = new Map<string, number>();
  for (const { n, pieces } of cut) for (const p of pieces) single.set(p, (single.get(p) ?? 0) + n);
  const found = new Set<string>([...single].filter(([p, n]) => n >= 20 && /^(##)?[\x21-\x7e]$/.test(p)).map(([p]) => p));
  while (found.size < size - special.length) {
    const pairs = new Map<string, number>();
    for (const { n, pieces } of cut)
      for (let i = 1; i < pieces.length; i++) {
        const pair = `${pieces[i - 1]} ${pieces[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + n);
      }
    let [best, most] = ["", 1];
    for (const [pair, n] of pairs) if (n > most || (n === most && pair < best)) [best, most] = [pair, n];
    if (!best) break;
    const [a, b] = best.split(" ") as [string, string];
    const merged = a + b.slice(2);
    found.add(merged);
    for (const { pieces } of cut)
      for (let i = 1; i < pieces.length; i++) if (pieces[i - 1] === a && pieces[i] === b) pieces.splice(i - 1, 2, merged);
  }
  return [...special, ...[...found].sort((a, b) => (a < b ? -1 : 1))];
}

/** tokenizer.json of a lower-case BERT tokenizer over the pieces. */
export function tokenizerJson(pieces: readonly string[]): object {
  const id = (token: string) => pieces.indexOf(token);
  const token = (content: string) => ({
    id: id(content),
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const part = (name: "[CLS]" | "[SEP]", type_id: number) => ({ SpecialToken: { id: name, type_id } });
  const sequence = (name: "A" | "B", type_id: number) => ({ Sequence: { id: name, type_id } });
  const entry = (name: string) => [name, { id: name, ids: [id(name)], tokens: [name] }];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special.map(token),
    normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [part("[CLS]", 0), sequence("A", 0), part("[SEP]", 0)],
      pair: [part("[CLS]", 0), sequence("A", 0), part("[SEP]", 0), sequence("B", 1), part("[SEP]", 1)],
      special_tokens: Object.fromEntries([entry("[CLS]"), entry("[SEP]")]),
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "[UNK]",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(pieces.map((p, i) => [p, i])),
    },
  };
}

/** tokenizer_config.json for texts of at most `length` tokens. */
export function tokenizerConfig(length: number): object {
  return {
    tokenizer_class: "BertTokenizer",
    do_lower_case: true,
    model_max_length: length,
    pad_token: "[PAD]",
    unk_token: "[UNK]",
    cls_token: "[CLS]",
    sep_token: "[SEP]",
    mask_token: "[MASK]",
    clean_up_tokenization_spaces: true,
  };
}
