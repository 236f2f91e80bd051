/** Field types that only file systems need. */
import { formatUuid, parseUuid } from "../bytes/guid.js";
import type { DecodedFields, Fields, FieldType, Layout } from "../bytes/layout.js";

/** A UUID in plain byte order, as lower-case text. */
export const uuid: FieldType<string> = {
  kind: "uuid",
  size: 16,
  decode: (view, offset) => formatUuid(new Uint8Array(view.buffer, view.byteOffset + offset, 16)),
  encode: (view, offset, value) => new Uint8Array(view.buffer, view.byteOffset + offset, 16).set(parseUuid(value)),
};

/** A label: UTF-8, ended by a zero byte or the field's end. Bytes that are no UTF-8 become U+FFFD, so it is read only. */
export function utf8(size: number): FieldType<string> {
  return {
    kind: `utf8[${size}]`,
    size,
    decode: (view, offset) => zeroEnded(Buffer.from(view.buffer, view.byteOffset + offset, size)).toString("utf8"),
    encode() {
      throw new TypeError("a label is never written here: the bytes it was read from may not be UTF-8");
    },
    print: (value) => JSON.stringify(value),
  };
}

function zeroEnded(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** Changes only the given fields of a structure that lies at `offset` in `bytes`; every other byte stays as it was. */
export function patchFields<F extends Fields>(
  table: Layout<F>,
  bytes: Uint8Array,
  offset: number,
  values: Partial<DecodedFields<F>>,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, table.size);
  for (const [name, value] of Object.entries(values)) {
    const field = table.fields[name]!;
    field.type.encode(view, field.offset, value, table.endian === "le");
  }
}
