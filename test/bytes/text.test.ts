import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { alignDown, alignUp, isZero } from "#src/bytes/align.js";
import { bit, bits } from "#src/bytes/bits.js";
import { crc32 } from "#src/bytes/checksum.js";
import { crc32c } from "#src/bytes/crc32c.js";
import {
  formatGuid,
  formatUuid,
  isGuid,
  parseGuid,
  parseUuid,
  randomGuid,
  randomUuid,
  ZERO_GUID,
} from "#src/bytes/guid.js";
import { fitWidth, printable, textWidth } from "#src/bytes/printable.js";
import { formatSize, parseSize } from "#src/bytes/size.js";

describe("sizes", () => {
  test.each([
    ["0", 0],
    ["512", 512],
    ["512B", 512],
    ["4K", 4096],
    ["4k", 4096],
    ["10M", 10 * 2 ** 20],
    ["20G", 20 * 2 ** 30],
    ["20GiB", 20 * 2 ** 30],
    ["1.5T", 1.5 * 2 ** 40],
    ["2P", 2 * 2 ** 50],
    ["20KB", 20_000],
    ["20GB", 20e9],
    ["2048s", 1_048_576],
    [" 64M ", 64 * 2 ** 20],
    ["9007199254740991", 2 ** 53 - 1],
    ["0.3K", 308],
    ["1.0000001G", 2 ** 30 + 108],
  ])("%j is %i bytes", (text, size) => expect(parseSize(text)).toBe(size));

  test.each([
    ["12Q", "allowed are bytes"],
    ["", "allowed are bytes"],
    ["-1", "allowed are bytes"],
    ["1e3", "allowed are bytes"],
    ["0x10", "allowed are bytes"],
    ["1.5", "no whole number of bytes"],
    ["0.3s", "no whole number of bytes"],
    ["9007199254740992", "allowed up to 2^53-1"],
    ["8P", "allowed up to 2^53-1"],
    ["8E", "allowed up to 2^53-1"],
  ])("%j is refused as wrong usage", (text, why) => {
    expect(() => parseSize(text)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", details: { usage: true, value: text } }),
    );
    expect(() => parseSize(text)).toThrow(why);
    expect(() => parseSize(text, "start")).toThrow(`Cannot read start ${JSON.stringify(text)}: `);
  });

  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1 KiB"],
    [1536, "1.5 KiB"],
    [2 ** 31, "2 GiB"],
    [2 ** 31 + 2 ** 28, "2.25 GiB"],
    [123_456_789, "118 MiB"],
    [2 ** 53 - 1, "8 PiB"],
  ])("%i bytes are shown as %j", (size, text) => expect(formatSize(size)).toBe(text));

  test("any whole size comes back from its sectors and bytes", () =>
    fc.assert(
      fc.property(fc.nat(2 ** 31), (sectors) => {
        expect(parseSize(`${sectors}s`)).toBe(sectors * 512);
        expect(parseSize(String(sectors))).toBe(sectors);
      }),
    ));
});

describe("GUIDs", () => {
  test("the EFI system partition's type in its stored bytes", () => {
    const stored = Buffer.from("28732ac11ff8d211ba4b00a0c93ec93b", "hex");
    expect(formatGuid(stored)).toBe("C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
    expect(Buffer.from(parseGuid("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"))).toEqual(stored);
  });

  test("any bytes come back from both orders", () =>
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), (bytes) => {
        expect(parseGuid(formatGuid(bytes))).toEqual(bytes);
        expect(parseUuid(formatUuid(bytes))).toEqual(bytes);
      }),
    ));

  test("random ones carry version 4 and variant 1 (RFC 9562)", () => {
    for (const byte of [0x00, 0xff]) {
      const random = (size: number) => new Uint8Array(size).fill(byte);
      expect(randomUuid(random)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      expect(randomGuid(random)).toBe(randomUuid(random).toUpperCase());
    }
  });

  test.each(["", "123", `${ZERO_GUID}0`, ZERO_GUID.replaceAll("-", ""), "g".repeat(8)])("%j is none", (text) => {
    expect(isGuid(text)).toBe(false);
    expect(() => parseGuid(text)).toThrow(RangeError);
  });
});

describe("arithmetic", () => {
  test("aligns beyond 32 bits", () => {
    expect(alignDown(2 ** 45 + 4097, 4096)).toBe(2 ** 45 + 4096);
    expect(alignUp(2 ** 45 + 4097, 4096)).toBe(2 ** 45 + 8192);
    expect(alignUp(2 ** 45, 4096)).toBe(2 ** 45);
    expect([alignUp(0, 512), alignDown(511, 512)]).toEqual([0, 0]);
  });

  test("bit masks as a spec prints them", () => {
    expect(bits(9, 55)).toBe(0x00ff_ffff_ffff_fe00n);
    expect(bits(0, 63)).toBe(0xffff_ffff_ffff_ffffn);
    expect(bit(63)).toBe(1n << 63n);
    for (const [first, last] of [
      [5, 4],
      [-1, 3],
      [0, 64],
      [Number.NaN, 3],
    ] as const)
      expect(() => bits(first, last)).toThrow(RangeError);
  });

  test("finds the one byte that is not zero, wherever it is", () => {
    expect(isZero(new Uint8Array(0))).toBe(true);
    for (const length of [1, 8191, 8192, 8193, 20_000]) {
      const bytes = new Uint8Array(length + 3);
      const inner = bytes.subarray(3);
      bytes.fill(1, 0, 3);
      expect(isZero(inner)).toBe(true);
      for (const at of [0, length >> 2, length >> 1, length - 1]) {
        inner.fill(0)[at] = 1;
        expect(isZero(inner)).toBe(false);
      }
    }
  });

  test("checksums: the check values of both polynomials, and continued ones", () => {
    const check = Buffer.from("123456789");
    expect(crc32(check)).toBe(0xcbf4_3926);
    expect(crc32c(check)).toBe(0xe306_9283);
    expect(crc32(check.subarray(4), crc32(check.subarray(0, 4)))).toBe(crc32(check));
    expect(crc32c(check.subarray(4), crc32c(check.subarray(0, 4)))).toBe(crc32c(check));
  });
});

describe("text from a disk, on a terminal", () => {
  test("control characters do not get there", () => {
    expect(printable("a\u001b[31mb\nc\u0000\u007f\u009b\u202e\u2028d")).toBe(
      "a\ufffd[31mb\ufffdc\ufffd\ufffd\ufffd\ufffd\ufffdd",
    );
    for (const text of ["", "plain ~", "Größe 根 😀"]) expect(printable(text)).toBe(text);
  });

  test.each([
    ["abc", 3],
    ["é", 1],
    ["e\u0301", 1],
    ["根目录", 6],
    ["ルートﾊ", 7],
    ["한글", 4],
    ["😀", 2],
    ["│█", 2],
  ])("%s is %i columns wide", (text, columns) => expect(textWidth(text)).toBe(columns));

  test("is cut or filled to the very column", () => {
    expect([fitWidth("根目", 5), fitWidth("根目", 3), fitWidth("ab", 0), fitWidth("a", 3)]).toEqual([
      "根目 ",
      "根 ",
      "",
      "a  ",
    ]);
  });
});
