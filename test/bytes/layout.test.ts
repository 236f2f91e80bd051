import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  bytes,
  code,
  constant,
  count64,
  guid,
  magic,
  reserved,
  s16,
  text,
  u8,
  u16,
  u32,
  u64,
  utf16,
} from "#src/bytes/field-types.js";
import { at, layout } from "#src/bytes/layout.js";
import { DiskError } from "#src/errors.js";

const RECORD = layout(
  "test record",
  { endian: "le", size: 96, spec: "none" },
  {
    signature: at(0, magic("TEST"), "identifies it"),
    version: at(4, constant(u16, 2), "always 2"),
    kind: at(6, code(u8, { plain: 1, striped: 7 }), "what it is"),
    flags: at(7, u8, "any"),
    signed: at(8, s16, "status"),
    gap: at(10, reserved(2), "kept"),
    crc: at(12, u32, "checksum"),
    size: at(16, count64, "bytes"),
    mask: at(24, u64, "bits"),
    id: at(32, guid, "identity"),
    name: at(48, text(12), "Latin-1"),
    label: at(60, utf16(10), "UTF-16"),
    rest: at(80, bytes(16), "raw"),
  },
);

const VALUE = {
  kind: "striped" as const,
  flags: 255,
  signed: -2,
  crc: 0xfedc_ba98,
  size: 2 ** 53 - 1,
  mask: 0xffff_ffff_ffff_ffffn,
  id: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
  name: "näme",
  label: "Größe 💾",
  rest: new Uint8Array(16).fill(9),
};

describe("a layout", () => {
  test("decodes what it encodes, every byte in its place", () => {
    const encoded = RECORD.encode(VALUE);
    expect(Buffer.from(encoded.subarray(0, 32)).toString("hex")).toBe(
      "544553540200 07 ff feff 0000 98badcfe ffffffffffff1f00 ffffffffffffffff".replaceAll(" ", ""),
    );
    expect(Buffer.from(encoded.subarray(32, 40)).toString("hex")).toBe("28732ac11ff8d211"); // mixed order
    expect(RECORD.decode(encoded)).toEqual({ ...VALUE, signature: "TEST", version: 2, gap: new Uint8Array(2) });
  });

  test("big-endian, at an offset, into a given buffer, and nothing beside it", () => {
    const pair = layout(
      "pair",
      { endian: "be", size: 6, spec: "none" },
      { a: at(0, u16, "first"), b: at(2, u32, "second") },
    );
    const into = new Uint8Array(10).fill(0xee);
    expect(pair.encode({ a: 0x0102, b: 0x03040506 }, into, 2)).toBe(into);
    expect([...into]).toEqual([0xee, 0xee, 1, 2, 3, 4, 5, 6, 0xee, 0xee]);
    expect(pair.decode(into, 2)).toEqual({ a: 0x0102, b: 0x03040506 });
  });

  test("a decoded value is a copy", () => {
    const encoded = RECORD.encode(VALUE);
    const { rest } = RECORD.decode(encoded);
    encoded.fill(0);
    expect(rest).toEqual(VALUE.rest);
  });

  test.each([
    ["a gap", 16, { a: at(0, u32, ""), b: at(5, u8, "") }, "x.b is at byte 5, the field before it ends at 4"],
    ["an overlap", 16, { a: at(0, u32, ""), b: at(3, u8, "") }, "x.b is at byte 3, the field before it ends at 4"],
    ["a wrong end", 6, { a: at(0, u32, ""), b: at(4, u8, "") }, "x ends at byte 5, its size is 6"],
  ])("with %s is refused when it is made", (_what, size, fields, message) => {
    expect(() => layout("x", { endian: "le", size, spec: "none" }, fields as never)).toThrow(message);
  });

  test.each([
    ["another magic", 0, [0x55], 'signature is "UEST", allowed "TEST" (byte 0)'],
    ["another constant", 4, [3], "version is 0x3, allowed 0x2 (byte 4)"],
    ["a count above 2^53-1", 16, [0, 0, 0, 0, 0, 0, 0x20], "size is 9007199254740992, allowed 0..2^53-1 (byte 16)"],
  ])("refuses bytes with %s, naming field and byte", (_what, offset, changed, message) => {
    const encoded = RECORD.encode(VALUE);
    encoded.set(changed, offset);
    expect(() => RECORD.decode(encoded)).toThrow(`Cannot read test record: ${message}`);
    expect(() => RECORD.decode(encoded)).toThrow(DiskError);
  });

  test("a number without a name becomes unknown, and is no code to write", () => {
    const encoded = RECORD.encode(VALUE);
    encoded[6] = 3;
    expect(RECORD.decode(encoded).kind).toBe("unknown");
    expect(() => RECORD.encode({ ...VALUE, kind: "unknown" })).toThrow(RangeError);
  });

  test("too few bytes are CORRUPT, misuse is a RangeError", () => {
    expect(() => RECORD.decode(new Uint8Array(95))).toThrow("Cannot read test record: 95 bytes are left, it needs 96");
    expect(() => RECORD.decode(new Uint8Array(96), 200)).toThrow("0 bytes are left");
    expect(() => RECORD.encode(VALUE, new Uint8Array(95))).toThrow(RangeError);
    expect(() => RECORD.encode({ ...VALUE, flags: 256 })).toThrow(RangeError);
    expect(() => RECORD.encode({ ...VALUE, size: -1 })).toThrow(RangeError);
    expect(() => RECORD.encode({ ...VALUE, mask: -1n })).toThrow(RangeError);
    expect(() => RECORD.encode({ ...VALUE, name: "thirteen char" })).toThrow(RangeError);
    expect(() => RECORD.encode({ ...VALUE, label: "eleven unit" })).toThrow(RangeError);
    expect(() => RECORD.encode({ ...VALUE, rest: new Uint8Array(15) })).toThrow(RangeError);
    const { crc: _crc, ...missing } = VALUE;
    expect(() => RECORD.encode(missing)).toThrow("test record needs a value for crc");
  });

  test("any bytes decode or are CORRUPT, and what decodes encodes to the same meaning", () =>
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 96, maxLength: 96 }), fc.boolean(), (random, keepMarks) => {
        if (keepMarks) random.set([0x54, 0x45, 0x53, 0x54, 2, 0, 7]);
        try {
          const value = RECORD.decode(random);
          if (value.kind === "unknown") return;
          expect(RECORD.decode(RECORD.encode(value))).toEqual(value);
        } catch (error) {
          expect(error).toMatchObject({ code: "CORRUPT" });
        }
      }),
    ));

  test("describes itself, with values when there are bytes", () => {
    expect(RECORD.describe().split("\n")[0]).toBe("test record (96 bytes, le; none)");
    expect(RECORD.describe()).toMatch(/^ {2}16 {2}count64 +size {2}bytes$/m);
    expect(RECORD.describe(RECORD.encode(VALUE))).toMatch(/size = 9007199254740991/);
  });
});
