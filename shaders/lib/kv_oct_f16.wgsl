// kv_oct_f16: a KV cache of f16, eight consecutive elements of one head at a time.
// Needs     key_cache, value_cache: array<KvOct>; `at` counts eights
alias KvOct = vec4u;

fn load_key(at: u32) -> KvOct { return key_cache[at]; }
fn load_value(at: u32) -> KvOct { return value_cache[at]; }
fn no_oct() -> KvOct { return vec4u(); }
fn low_quad(oct: KvOct) -> vec4f { return vec4f(unpack2x16float(oct.x), unpack2x16float(oct.y)); }
fn high_quad(oct: KvOct) -> vec4f { return vec4f(unpack2x16float(oct.z), unpack2x16float(oct.w)); }
fn to_halves(oct: KvOct) -> vec4u { return oct; }
