// heads_one: Heads, one f32 a query head that shares a KV head, where there is one such head.
alias Heads = f32;
fn head_at(heads: Heads, _index: u32) -> f32 { return heads; }
fn with_head(_heads: Heads, _index: u32, value: f32) -> Heads { return value; }
