// kv_word_f16: a KV cache of f16, word by word; a word is two elements.
// Needs     key_cache, value_cache; queries, values
alias KvWord = u32;
const WORD_SIZE = 2u;

fn score_word(word: u32, turn: u32) -> Heads {
  let key = unpack2x16float(key_cache[word]);
  return key.x * queries[2u * turn] + key.y * queries[2u * turn + 1u];
}
fn add_word(word: u32, turn: u32, weights: Heads) {
  let value = unpack2x16float(value_cache[word]);
  values[2u * turn] += value.x * weights;
  values[2u * turn + 1u] += value.y * weights;
}
