// store8_bf16: writes eight bf16, two to a u32, rounded to nearest, ties to even; NaN stays NaN.
// Needs     var y: array<vec4u>, struct Weights8 of lib/weights_*.wgsl
fn to_bf16(values: vec4f) -> vec4u {
  let bits = bitcast<vec4u>(values);
  let rounded = (bits + vec4u(0x7fffu) + ((bits >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u);
  let quiet = (bits >> vec4u(16u)) | vec4u(0x40u);
  return select(rounded, quiet, (bits & vec4u(0x7fffffffu)) > vec4u(0x7f800000u));
}

fn store_weights(chunk: u32, eight: Weights8) {
  let lo = to_bf16(eight.lo);
  let hi = to_bf16(eight.hi);
  y[chunk] = vec4u(
    lo.x | (lo.y << 16u),
    lo.z | (lo.w << 16u),
    hi.x | (hi.y << 16u),
    hi.z | (hi.w << 16u),
  );
}
