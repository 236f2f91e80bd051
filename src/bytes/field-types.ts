/** The field types that layouts are made of. Decoders refuse what the type cannot hold; encoders refuse what the bytes cannot. */

import { formatGuid, parseGuid } from "./guid.js";
import type { FieldType } from "./layout.js";

function unsigned(kind: string, size: 1 | 2 | 4, max: number): FieldType<number> {
  return {
    kind,
    size,
    decode: (view, offset, little) =>
      size === 1 ? view.getUint8(offset) : size === 2 ? view.getUint16(offset, little) : view.getUint32(offset, little),
    encode(view, offset, value, little) {
      if (!Number.isInteger(value) || value < 0 || value > max) throw new RangeError(`${value} is no ${kind}`);
      if (size === 1) view.setUint8(offset, value);
      else if (size === 2) view.setUint16(offset, value, little);
      else view.setUint32(offset, value, little);
    },
  };
}

export const u8 = unsigned("u8", 1, 0xff);
export const u16 = unsigned("u16", 2, 0xffff);
export const u32 = unsigned("u32", 4, 0xffff_ffff);

/** Signed 16 bits, for status words. */
export const s16: FieldType<number> = {
  kind: "s16",
  size: 2,
  decode: (view, offset, little) => view.getInt16(offset, little),
  encode: (view, offset, value, little) => view.setInt16(offset, value, little),
};

/** Signed 32 bits, for negative error numbers. */
export const s32: FieldType<number> = {
  kind: "s32",
  size: 4,
  decode: (view, offset, little) => view.getInt32(offset, little),
  encode: (view, offset, value, little) => view.setInt32(offset, value, little),
};

/** All 64 bits, for opaque values and flag words. */
export const u64: FieldType<bigint> = {
  kind: "u64",
  size: 8,
  decode: (view, offset, little) => view.getBigUint64(offset, little),
  encode(view, offset, value, little) {
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw new RangeError(`${value} is no u64`);
    view.setBigUint64(offset, value, little);
  },
};

/** A 64-bit count, address or size that must fit a JavaScript number: refused above 2^53-1 here and nowhere else. */
export const count64: FieldType<number> = {
  kind: "count64",
  size: 8,
  decode(view, offset, little) {
    const value = view.getBigUint64(offset, little);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Error(`${value}, allowed 0..2^53-1`);
    return Number(value);
  },
  encode(view, offset, value, little) {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is no count`);
    view.setBigUint64(offset, BigInt(value), little);
  },
};

/** Bytes that identify a structure; anything else is refused. Text is Latin-1. */
export function magic(text: string): FieldType<string> {
  const expected = Uint8Array.from(text, (char) => char.charCodeAt(0));
  return {
    kind: "magic",
    size: expected.length,
    fallback: text,
    decode(view, offset) {
      const found = latin1(view, offset, expected.length);
      if (found !== text) throw new Error(`${JSON.stringify(found)}, allowed ${JSON.stringify(text)}`);
      return text;
    },
    encode(view, offset) {
      for (const [i, byte] of expected.entries()) view.setUint8(offset + i, byte);
    },
    print: (value) => JSON.stringify(value),
  };
}

/** A number that must have exactly this value. */
export function constant(type: FieldType<number>, expected: number): FieldType<number> {
  return {
    kind: type.kind,
    size: type.size,
    fallback: expected,
    decode(view, offset, little) {
      const found = type.decode(view, offset, little);
      if (found !== expected) throw new Error(`${hex(found)}, allowed ${hex(expected)}`);
      return found;
    },
    encode: (view, offset, _value, little) => type.encode(view, offset, expected, little),
    print: hex,
  };
}

/** Raw bytes. The decoded value is a copy. */
export function bytes(size: number): FieldType<Uint8Array> {
  return {
    kind: `bytes[${size}]`,
    size,
    decode: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, size).slice(),
    encode(view, offset, value) {
      if (value.length !== size) throw new RangeError(`${value.length} bytes given, the field has ${size}`);
      new Uint8Array(view.buffer, view.byteOffset + offset, size).set(value);
    },
    print: (value) => Buffer.from(value).toString("hex"),
  };
}

/** Bytes without a meaning of their own: kept when read, zero when not given. */
export function reserved(size: number): FieldType<Uint8Array> {
  return { ...bytes(size), kind: `reserved[${size}]`, fallback: new Uint8Array(size) };
}

/** Latin-1 text, padded with zeros. */
export function text(size: number): FieldType<string> {
  return {
    kind: `text[${size}]`,
    size,
    decode: (view, offset) => latin1(view, offset, size).replace(/\0.*$/s, ""),
    encode(view, offset, value) {
      if (value.length > size) throw new RangeError(`${JSON.stringify(value)} is longer than ${size} bytes`);
      for (let i = 0; i < size; i++) view.setUint8(offset + i, i < value.length ? value.charCodeAt(i) : 0);
    },
    print: (value) => JSON.stringify(value),
  };
}

/** UTF-16LE text of a number of code units, ended by a zero unit or the field's end (UEFI partition names). */
export function utf16(units: number): FieldType<string> {
  return {
    kind: `utf16[${units}]`,
    size: units * 2,
    decode(view, offset) {
      let value = "";
      for (let i = 0; i < units; i++) {
        const unit = view.getUint16(offset + i * 2, true);
        if (unit === 0) break;
        value += String.fromCharCode(unit);
      }
      return value;
    },
    encode(view, offset, value) {
      if (value.length > units) throw new RangeError(`${JSON.stringify(value)} is longer than ${units} UTF-16 units`);
      for (let i = 0; i < units; i++) view.setUint16(offset + i * 2, i < value.length ? value.charCodeAt(i) : 0, true);
    },
    print: (value) => JSON.stringify(value),
  };
}

/** A GUID in UEFI's mixed byte order, as upper-case text. */
export const guid: FieldType<string> = {
  kind: "guid",
  size: 16,
  decode: (view, offset) => formatGuid(new Uint8Array(view.buffer, view.byteOffset + offset, 16)),
  encode: (view, offset, value) => new Uint8Array(view.buffer, view.byteOffset + offset, 16).set(parseGuid(value)),
};

/** A peer's number as a name; a number without a name becomes `unknown`. */
export function code<const T extends Record<string, number>>(
  type: FieldType<number>,
  names: T,
): FieldType<keyof T | "unknown"> {
  const byNumber = new Map(Object.entries(names).map(([name, number]) => [number, name as keyof T]));
  return {
    kind: type.kind,
    size: type.size,
    decode: (view, offset, little) => byNumber.get(type.decode(view, offset, little)) ?? "unknown",
    encode(view, offset, value, little) {
      if (value === "unknown" || names[value] === undefined) throw new RangeError(`${String(value)} is no code`);
      type.encode(view, offset, names[value], little);
    },
  };
}

function latin1(view: DataView, offset: number, size: number): string {
  return Buffer.from(view.buffer, view.byteOffset + offset, size).toString("latin1");
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
