/** xl.cfg(5): its grammar, the keys that are used, its errors with source and line. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { parseXlConfig, type XlConfig } from "#src/xen/xl/config.js";
import { readSettings, type XlValue } from "#src/xen/xl/config-syntax.js";

/** Values without their lines. */
type Plain = string | Plain[];
const plain = (value: XlValue): Plain => (value.kind === "atom" ? value.text : value.items.map(plain));
const settings = (text: string) =>
  Object.fromEntries([...readSettings(text, "a.cfg")].map(([name, { value }]) => [name, plain(value)]));

describe("grammar", () => {
  test.each<[text: string, wanted: Record<string, Plain>]>([
    ["", {}],
    ["\n;;\n\n", {}],
    ["# nothing\n  # else", {}],
    ["a=1", { a: "1" }],
    ["a = 1 # one\nb=2;c=3 ; d = 4", { a: "1", b: "2", c: "3", d: "4" }],
    ["a=0x1f\nb=010\nc=1fx", { a: "0x1f", b: "010", c: "1fx" }],
    [`a='x "y" #z'\nb="it's; [ok]"`, { a: 'x "y" #z', b: "it's; [ok]" }],
    [`a="\\"\\'\\\\\\a\\b\\f\\n\\r\\t\\v"`, { a: "\"'\\\x07\b\f\n\r\t\v" }],
    [`a="\\x41\\x7e\\101\\0\\0604"`, { a: "A~A\x000" + "4" }],
    [`a='\\'"'`, { a: "'\"" }],
    ["a=''", { a: "" }],
    ["a=[]", { a: [] }],
    ["a=[\n]", { a: [] }],
    ["a=['x']", { a: ["x"] }],
    ["a=['x',]", { a: ["x"] }],
    ["a = [ 'x' , # first\n\n 'y'\n , 3 ,\n ]\nb=1", { a: ["x", "y", "3"], b: "1" }],
    ["a=[['x','y'],[],'z',[['w']]]", { a: [["x", "y"], [], "z", [["w"]]] }],
    ["a=1\na=2", { a: "2" }],
    ["a='x'\na+='y'\na+='z'", { a: "xyz" }],
    ["a=['x']\na+=['y','z']", { a: ["x", "y", "z"] }],
    ["a+=['x']", { a: ["x"] }],
    ["a_1b='x';b =\t'y'", { a_1b: "x", b: "y" }],
    ["constructor=1\nto_string='x'", { constructor: "1", to_string: "x" }],
  ])("%j", (text, wanted) => expect(settings(text)).toEqual(wanted));

  test.each([
    ["a", 1, "the end of the file", "unexpected end of file, expecting = or +="],
    ["\na 1", 2, "`1'", "unexpected NUMBER, expecting = or +="],
    ["a=\nb=1", 1, "<newline>", "unexpected NEWLINE, expecting STRING or NUMBER or ["],
    ["a=1 b=2", 1, "`b'", "unexpected IDENT, expecting NEWLINE or ;"],
    ["=1", 1, "`='", "unexpected =, expecting IDENT"],
    ["'a'=1", 1, "`'a''", "unexpected STRING, expecting IDENT"],
    ["a=['x' 'y']", 1, "`'y''", "unexpected STRING, expecting ,"],
    ["a=[,]", 1, "`,'", "unexpected ,, expecting STRING or NUMBER or ["],
    ["a=['x',,]", 1, "`,'", "unexpected ,"],
    ["a=[\n'x'\n", 3, "the end of the file", "unexpected end of file, expecting ,"],
    ["a=]", 1, "`]'", "unexpected ]"],
    ["a=['x']]", 1, "`]'", "unexpected ], expecting NEWLINE or ;"],
    ["a=b", 1, "`b'", "unexpected IDENT"],
    ["a='x\ny'", 1, "`'x'", "lexical error"],
    ["a='x", 1, "`'x'", "lexical error"],
    ['a="x\\', 1, "`\"x\\'", "lexical error"],
    ["A=1", 1, "`A=1'", "lexical error"],
    ["a=1\r\nb=2", 1, "`?'", "lexical error"],
    ["import os\ndef f(x): pass", 1, "`os'", "unexpected IDENT"],
    ["a=('x')", 1, "`('x')'", "this is no Python"],
    ["a=-1", 1, "`-1'", "this is no Python"],
    [`a="\\q"`, 1, '`"\\q"\'', "invalid escape"],
    [`a="\\x4"`, 1, '`"\\x4"\'', "two hex digits"],
    [`a="\\400"`, 1, '`"\\400"\'', "invalid escape"],
    ["a='x'\na+=['y']", 2, "`a'", "cannot be joined"],
    ["a=['x']\n\na+='y'", 3, "`a'", "cannot be joined"],
    [`a=${"[".repeat(9)}`, 1, "`['", "8 levels"],
    [`a=[${"1,".repeat(4097)}]`, 1, "`1'", "allowed 4096"],
    [`a=[${"1,".repeat(4000)}]\na+=[${"1,".repeat(100)}]`, 2, "`a'", "allowed 4096"],
    ["a=1;".repeat(4097), 1, "`a'", "allowed 4096"],
    [`a=1${"b".repeat(500)}g`, 1, "`g'", "unexpected IDENT"],
  ])("%j is refused at line %i", (text, line, near, message) => {
    expect(() => readSettings(text, "a.cfg")).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED",
        message: expect.stringContaining(`a.cfg:${line}: config parsing error near ${near}: `),
        details: { source: "a.cfg", line },
      }),
    );
    expect(() => readSettings(text, "a.cfg")).toThrow(
      expect.objectContaining({ message: expect.stringContaining(message) }),
    );
  });

  test("a file too long is refused before it is read", () => {
    expect(() => readSettings(" ".repeat((1 << 20) + 1), "a.cfg")).toThrow(/1048577 characters, allowed 1048576/);
  });
});

describe("keys", () => {
  const NOTHING: XlConfig = {
    source: "web.cfg",
    name: null,
    type: null,
    uuid: null,
    memory: null,
    maxmem: null,
    vcpus: null,
    disks: [],
    ignored: [],
  };

  test.each<[text: string, wanted: Partial<XlConfig>]>([
    ["", {}],
    ["name='web1'", { name: "web1" }],
    ["name=7", { name: "7" }],
    ["name='web'\nname+='1'", { name: "web1" }],
    ["memory=512", { memory: 512 }],
    ["memory='512'", { memory: 512 }],
    ["memory=0x200\nmaxmem=01000", { memory: 512, maxmem: 512 }],
    ["memory=128;maxmem=256;vcpus=4", { memory: 128, maxmem: 256, vcpus: 4 }],
    ["type='pvh'", { type: "pvh" }],
    ["uuid='00112233-4455-6677-8899-AABBCCDDEEFF'", { uuid: "00112233-4455-6677-8899-aabbccddeeff" }],
    ["uuid='00112233445566778899aabbccddeeff'", { uuid: "00112233-4455-6677-8899-aabbccddeeff" }],
    [
      "kernel='/k'\n\nvif=['']\nname='x'\non_crash='destroy'",
      {
        name: "x",
        ignored: [
          { key: "kernel", line: 1 },
          { key: "vif", line: 3 },
          { key: "on_crash", line: 5 },
        ],
      },
    ],
  ])("%j", (text, wanted) => expect(parseXlConfig(text, "web.cfg")).toEqual({ ...NOTHING, ...wanted }));

  test("disks, in their order, also over several lists", () => {
    const text = `disk = [ '/a,raw,xvda,w', "format=raw,vdev=xvdb,access=ro,target=/b,c",\n]\ndisk += [ 'phy:/c,hdc:cdrom,r' ]`;
    expect(parseXlConfig(text, "web.cfg").disks).toMatchObject([
      { target: "/a", vdev: "xvda", access: "rw" },
      { target: "/b,c", vdev: "xvdb", access: "ro" },
      { target: "/c", vdev: "hdc", access: "ro", cdrom: true },
    ]);
  });

  test.each([
    ["\nmemory='much'", 'web.cfg:2: parameter `memory\' is not a valid number: "much", allowed 1..'],
    ["memory=08", "web.cfg:1: parameter `memory' is not a valid number"],
    ["memory=''", "is not a valid number"],
    ["memory=12f", "is not a valid number"],
    ["memory=0", "parameter `memory' is 0, allowed 1.."],
    ["memory='-5'", "parameter `memory' is -5, allowed 1.."],
    ["memory=99999999999999999999", "is 99999999999999999999, allowed"],
    ["memory=512;maxmem=256", "parameter `maxmem' is 256, allowed 512.."],
    ["memory=1\nmemory+=2", "which += cannot add to"],
    ["vcpus=129", "parameter `vcpus' is 129, allowed 1..128"],
    ["vcpus=[2]", "is a list but should be a single value"],
    ["name=['a']", "parameter `name' is a list but should be a single value"],
    ["type='xen'", 'parameter `type\' is "xen", allowed pv pvh hvm'],
    ["uuid='1234'", "allowed a UUID"],
    ["disk='/a,raw,xvda,w'", "parameter `disk' is a single value but should be a list"],
    ["disk=['/a,raw,xvda,w',['/b']]", "has a list as its value 2"],
    [
      "disk=['/a,raw,xvda,maybe']",
      "web.cfg: config parsing error in disk specification: unknown value for access: near `maybe' in `/a",
    ],
  ])("%j", (text, message) => {
    expect(() => parseXlConfig(text, "web.cfg")).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", message: expect.stringContaining(message) }),
    );
  });
});

describe("any text", () => {
  const words = fc.constantFrom(
    ...["name", "disk", "memory", "=", "+=", "[", "]", ",", ";", "\n", " ", "#", "'", '"', "\\", "x", "0x1f", "'a'"],
    ...['"b"', "\t", "\r", "\0", "é", "(", "'/a,raw,xvda,w'", "\\x41", "7"],
  );
  const text = fc.oneof(
    fc.array(words, { maxLength: 60 }).map((parts) => parts.join("")),
    fc.string(),
  );

  test("ends in a configuration or in one line of error", () => {
    fc.assert(
      fc.property(text, (config) => {
        try {
          parseXlConfig(config, "a.cfg");
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
          // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be printed
          expect((error as DiskError).message).not.toMatch(/[\x00-\x1f]/);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("the longest of each kind ends in order", () => {
    for (const part of ["a", "'", '"', "[", "a=[", "a=1\n", "a+='x'\n", " ", "\n", "#", "\\", "'\\", "a='x'\n\n", "1"])
      try {
        parseXlConfig(part.repeat(Math.floor((1 << 20) / part.length)), "a.cfg");
      } catch (error) {
        expect(error).toBeInstanceOf(DiskError);
      }
  });

  test("what is quoted with every escape is read back", () => {
    const quote = (value: string) =>
      `"${[...value].map((char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`).join("")}"`;
    const byte = fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code));
    fc.assert(
      fc.property(
        fc.array(byte).map((bytes) => bytes.join("")),
        (value) => {
          expect(settings(`a=${quote(value)}`)).toEqual({ a: value });
        },
      ),
    );
  });
});
