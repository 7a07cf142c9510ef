/** CRC-32 (IEEE 802.3, reflected polynomial 0xEDB88320), the one of gzip and of `node:zlib`. */

/** Four tables: four bytes a round ("slicing by 4", Kounavis & Berry 2005). */
const TABLES: readonly Uint32Array[] = makeTables();

/** Continues from `crc`, the result for the bytes before; 0 at the start. Unsigned 32 bits. */
export function crc32(bytes: Uint8Array, crc = 0): number {
  const [t0, t1, t2, t3] = TABLES;
  let value = ~crc;
  let i = 0;
  for (; i + 3 < bytes.length; i += 4) {
    value ^=
      at(bytes, i) | (at(bytes, i + 1) << 8) | (at(bytes, i + 2) << 16) | (at(bytes, i + 3) << 24);
    value =
      at(t3, value & 255) ^
      at(t2, (value >>> 8) & 255) ^
      at(t1, (value >>> 16) & 255) ^
      at(t0, value >>> 24);
  }
  for (; i < bytes.length; i++) value = at(t0, (value ^ at(bytes, i)) & 255) ^ (value >>> 8);
  return ~value >>> 0;
}

function at(table: Uint8Array | Uint32Array | undefined, index: number): number {
  return table?.[index] ?? 0;
}

function makeTables(): Uint32Array[] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    return value;
  });
  const tables = [first];
  for (let k = 1; k < 4; k++) {
    const before = tables[k - 1];
    tables.push(
      first.map((_, byte) => at(first, at(before, byte) & 255) ^ (at(before, byte) >>> 8)),
    );
  }
  return tables;
}
