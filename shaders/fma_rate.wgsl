// fma_rate: multiply-adds of f32 with nothing to wait for: what arithmetic by lanes can reach
//
// Shapes    out: [number of workgroups] f32
// Dispatch  any number of workgroups; a lane does `loops` rounds of eight independent vec4 FMAs,
//           64 operations each
override WG_SIZE: u32 = 256;

struct Params { loops: u32, factor: f32, addend: f32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WG_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let a = vec4f(params.factor);
  let b = vec4f(params.addend);
  let start = vec4f(f32(lane));
  var s0 = start;
  var s1 = start + 1.0;
  var s2 = start + 2.0;
  var s3 = start + 3.0;
  var s4 = start + 4.0;
  var s5 = start + 5.0;
  var s6 = start + 6.0;
  var s7 = start + 7.0;
  for (var i = 0u; i < params.loops; i++) {
    s0 = fma(s0, a, b);
    s1 = fma(s1, a, b);
    s2 = fma(s2, a, b);
    s3 = fma(s3, a, b);
    s4 = fma(s4, a, b);
    s5 = fma(s5, a, b);
    s6 = fma(s6, a, b);
    s7 = fma(s7, a, b);
  }
  let sums = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7;
  let sum = sums.x + sums.y + sums.z + sums.w;
  // only a rare value is written by all lanes, so that the write costs nothing and no sum is left out
  if (sum == 0.123 || lane == 0u) { out[group.x] = sum; }
}
