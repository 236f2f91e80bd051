/**
 * A binary structure as one table: every field with its byte offset, its type and its meaning.
 * The table decodes, encodes, checks itself (fields touch and end at `size`) and prints the documentation.
 */
import { DiskError } from "../errors.js";

/** How one field lies in its bytes. `size` in bytes; `fallback` makes the field optional when encoding. */
export interface FieldType<T> {
  readonly kind: string;
  readonly size: number;
  readonly fallback?: T;
  /** Throws a plain `Error` whose message is "<found>, <allowed>"; the layout adds structure, field and byte. */
  decode(view: DataView, offset: number, little: boolean): T;
  encode(view: DataView, offset: number, value: T, little: boolean): void;
  /** For `describe`; default `String`. */
  print?(value: T): string;
}

export interface Field<T> {
  readonly offset: number;
  readonly type: FieldType<T>;
  readonly doc: string;
}

/** One line of a layout: `at(16, u32, "CRC-32 of the header")`. */
export function at<T>(offset: number, type: FieldType<T>, doc: string): Field<T> {
  return { offset, type, doc };
}

// biome-ignore lint/suspicious/noExplicitAny: a table holds fields of every type; the value types are recovered by `Decoded`.
export type Fields = Record<string, Field<any>>;
export type DecodedFields<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };
export type Decoded<L> = L extends Layout<infer F> ? DecodedFields<F> : never;

export interface LayoutOptions {
  readonly endian: "le" | "be";
  /** Bytes of the whole structure. */
  readonly size: number;
  /** Document and section that the table was made from. */
  readonly spec: string;
}

export interface Layout<F extends Fields> extends LayoutOptions {
  readonly name: string;
  readonly fields: F;
  /** Reads the structure at `offset`. Throws `CORRUPT` when the bytes are too short or a field refuses its value. */
  decode(bytes: Uint8Array, offset?: number): DecodedFields<F>;
  /** Writes the structure into `into` (or a new buffer) and returns that buffer. Fields with a fallback may be left out. */
  encode(value: Partial<DecodedFields<F>>, into?: Uint8Array, offset?: number): Uint8Array;
  /** The table as text, with the values of `bytes` when given. */
  describe(bytes?: Uint8Array, offset?: number): string;
}

/** Builds the table; throws at import when fields leave a gap, overlap, or do not end at `size`. */
export function layout<F extends Fields>(name: string, options: LayoutOptions, fields: F): Layout<F> {
  checkCoverage(name, options.size, fields);
  const entries = Object.entries(fields);
  const table: Table = { name, size: options.size, little: options.endian === "le", entries };
  return {
    name,
    ...options,
    fields,
    decode: (bytes, offset = 0) => decodeFields(table, bytes, offset) as DecodedFields<F>,
    encode: (value, into = new Uint8Array(options.size), offset = 0) => encodeFields(table, value, into, offset),
    describe(bytes, offset = 0) {
      const value = bytes && decodeFields(table, bytes, offset);
      const rows = entries.map(([key, field]) => {
        const shown = value ? ` = ${field.type.print?.(value[key]) ?? String(value[key])}` : "";
        return `${String(field.offset).padStart(4)}  ${field.type.kind.padEnd(12)} ${key}${shown}  ${field.doc}`;
      });
      return [`${name} (${options.size} bytes, ${options.endian}; ${options.spec})`, ...rows].join("\n");
    },
  };
}

/** What decoding and encoding need of a layout, made once. */
interface Table {
  readonly name: string;
  readonly size: number;
  readonly little: boolean;
  readonly entries: readonly (readonly [string, Fields[string]])[];
}

function decodeFields({ name, size, little, entries }: Table, bytes: Uint8Array, offset: number) {
  if (offset < 0 || offset + size > bytes.length) {
    const found = Math.max(0, bytes.length - offset);
    throw new DiskError("CORRUPT", `Cannot read ${name}: ${found} bytes are left, it needs ${size}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, size);
  const value: Record<string, unknown> = {};
  for (const [key, field] of entries) {
    try {
      value[key] = field.type.decode(view, field.offset, little);
    } catch (error) {
      const text = `Cannot read ${name}: ${key} is ${(error as Error).message} (byte ${field.offset})`;
      throw new DiskError("CORRUPT", text, { details: { structure: name, field: key, byte: field.offset } });
    }
  }
  return value;
}

function encodeFields(
  { name, size, little, entries }: Table,
  value: Record<string, unknown>,
  into: Uint8Array,
  offset: number,
): Uint8Array {
  if (offset < 0 || offset + size > into.length)
    throw new RangeError(`${name} does not fit: ${into.length} bytes, offset ${offset}, size ${size}`);
  const view = new DataView(into.buffer, into.byteOffset + offset, size);
  for (const [key, field] of entries) {
    const given = value[key] ?? field.type.fallback;
    if (given === undefined) throw new TypeError(`${name} needs a value for ${key}`);
    field.type.encode(view, field.offset, given, little);
  }
  return into;
}

function checkCoverage(name: string, size: number, fields: Fields): void {
  let end = 0;
  for (const [key, field] of Object.entries(fields)) {
    if (field.offset !== end)
      throw new RangeError(`${name}.${key} is at byte ${field.offset}, the field before it ends at ${end}`);
    end += field.type.size;
  }
  if (end !== size) throw new RangeError(`${name} ends at byte ${end}, its size is ${size}`);
}
