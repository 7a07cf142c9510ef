// kv_oct_f32: a KV cache of f32, eight consecutive elements of one head at a time.
// Needs     key_cache, value_cache: array<KvOct>; `at` counts eights
struct KvOct { low: vec4f, high: vec4f }

fn load_key(at: u32) -> KvOct { return key_cache[at]; }
fn load_value(at: u32) -> KvOct { return value_cache[at]; }
fn no_oct() -> KvOct { return KvOct(); }
fn low_quad(oct: KvOct) -> vec4f { return oct.low; }
fn high_quad(oct: KvOct) -> vec4f { return oct.high; }

// Rounded to nearest, and clamped to what f16 holds.
fn to_halves(oct: KvOct) -> vec4u {
  let most = vec4f(65504.0);
  let low = clamp(oct.low, -most, most);
  let high = clamp(oct.high, -most, most);
  return vec4u(
    pack2x16float(low.xy), pack2x16float(low.zw), pack2x16float(high.xy), pack2x16float(high.zw));
}
