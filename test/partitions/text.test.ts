/** Types, attributes, layouts and the picture: what people write and read. */
import { describe, expect, it } from "vitest";
import { parseAttributes, printAttributes } from "#src/partitions/attributes.js";
import { drawDisk } from "#src/partitions/picture.js";
import { parseLayout } from "#src/partitions/script/parse.js";
import { nodeName } from "#src/partitions/sfdisk-json.js";
import { resolveType, translateType, typeAlias, typeName } from "#src/partitions/type-codes.js";
import { add, initialized, MIB } from "./support.js";

describe("types", () => {
  it.each([
    ["gpt", "linux", "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "Linux filesystem"],
    ["gpt", "EF00", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI System"],
    ["gpt", "U", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "EFI System"],
    ["gpt", "bios", "21686148-6449-6E6F-744E-656564454649", "BIOS boot"],
    ["gpt", "root-x86-64", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "Linux root (x86-64)"],
    [
      "gpt",
      "11111111-2222-3333-4444-55555555555a",
      "11111111-2222-3333-4444-55555555555A",
      "11111111-2222-3333-4444-55555555555A",
    ],
    ["dos", "swap", "82", "Linux swap"],
    ["dos", "0x0C", "c", "W95 FAT32 (LBA)"],
    ["dos", "E", "5", "Extended"],
    ["dos", "e", "e", "W95 FAT16 (LBA)"],
    ["dos", "lvm", "8e", "Linux LVM"],
    ["dos", "d7", "d7", "type d7"],
  ] as const)("%s %s is %s, %s", (label, text, code, name) => {
    expect(resolveType(label, text)).toBe(code);
    expect(typeName(label, code)).toBe(name);
  });

  it.each([
    ["gpt", "83"],
    ["dos", "home"],
    ["dos", "0"],
    ["dos", "100"],
    ["gpt", ""],
  ] as const)("%s %j is refused with what is allowed", (label, text) => {
    expect(() => resolveType(label, text)).toThrow(/is not known here, allowed are .*linux/);
  });

  it("translate between the two kinds of table", () => {
    expect(translateType("dos", "E6D6D379-F507-44C2-A23C-238F2A3DF928")).toBe("8e");
    expect(translateType("gpt", "8e")).toBe("E6D6D379-F507-44C2-A23C-238F2A3DF928");
    expect(translateType("dos", "21686148-6449-6E6F-744E-656564454649")).toBeNull();
    expect(typeAlias("gpt", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F")).toBe("swap");
  });
});

it("attributes are printed and parsed by sfdisk's names", () => {
  const text = "RequiredPartition LegacyBIOSBootable GUID:48,63";
  const bits = 1n | 4n | (1n << 48n) | (1n << 63n);
  expect(printAttributes(bits | (1n << 20n))).toBe(text);
  expect(parseAttributes(text)).toBe(bits);
  expect(parseAttributes("requiredpartition,50")).toBe(1n | (1n << 50n));
  expect(parseAttributes("")).toBe(0n);
  expect(() => parseAttributes("GUID:20")).toThrow(/allowed are RequiredPartition/);
});

describe("layouts", () => {
  it("short ones", () => {
    expect(parseLayout("efi:512M,swap:2G:spare,lvm:*").lines).toEqual([
      { type: "efi", size: 512 * MIB },
      { type: "swap", size: 2048 * MIB, name: "spare" },
      { type: "lvm", size: "all" },
    ]);
  });

  it("sfdisk scripts in each of their forms", () => {
    const text =
      "# comment\nlabel: dos\nsector-size: 4096\n\n1 : start=256, size=10M, type=83, bootable\n/dev/sda2 : start= 8192 , size= 1 , Id=c\n2048,,L,*\n,5M\n- 1G V\n";
    expect(() => parseLayout(text)).toThrow(); // "-" is no start
    expect(parseLayout(text.replace("- 1G V\n", "")).lines).toEqual([
      { number: 1, start: 256 * 4096, size: 10 * MIB, type: "83", bootable: true },
      { number: 2, start: 8192 * 4096, size: 4096, type: "c" },
      { start: 2048 * 4096, size: "all", type: "L", bootable: true },
      { size: 5 * MIB },
    ]);
  });

  it("names with escapes, commas and letters beyond ASCII", () => {
    const [line] = parseLayout('label: gpt\nsize=1M, name="a\\x22b, c\\xc3\\xa9 é"\n').lines;
    expect(line).toEqual({ size: MIB, name: 'a"b, cé é' });
  });

  it.each([
    "label: gpt\nunknown: 3\n",
    "label: gpt\nstart=1, colour=blue\n",
    "label: gpt\nfirst-lba: x\n",
    "label: gpt\n1,2,L,*,5\n",
    '{"partitiontable": {"partitions": [{"start": -1}]}}',
    "{}",
    '{"partitiontable": {"unit": "bytes"}}',
  ])("%j is refused", (text) => {
    expect(() => parseLayout(text)).toThrow(/^Cannot read/);
  });
});

it("node names are made as sfdisk makes them", () => {
  expect([nodeName("a.dsk", 3), nodeName("disk7", 3)]).toEqual(["a.dsk3", "disk7p3"]);
});

describe("the picture", () => {
  it("is to scale, in the order of the disk, with free space", async () => {
    const made = await initialized(64 * MIB, "gpt");
    await add(made, { size: 31 * MIB, name: "half" });
    await add(made, { start: 48 * MIB, size: 8 * MIB });
    const lines = drawDisk(await made.table(), 68);
    expect(lines).toHaveLength(3);
    expect(new Set(lines.map((line) => [...line].length))).toEqual(new Set([68]));
    expect(lines[1]).toMatch(/^│1 half +│· free 16 MiB ··│2 +│·+│$/);
    const widths = lines[1]!
      .split("│")
      .slice(1, -1)
      .map((cell) => cell.length);
    expect(widths[0]! / widths[1]!).toBeCloseTo(2, 0);
  });

  it("shows no control characters of a name", async () => {
    const made = await initialized(8 * MIB, "gpt");
    await add(made, { name: "\u001b[31mred\u202e" });
    const drawn = drawDisk(await made.table(), 60).join("\n");
    for (const char of ["\u001b", "\u202e"]) expect(drawn.includes(char)).toBe(false);
    expect(drawn).toContain("1 �[31mred�");
  });

  it("gives fifteen partitions room for their numbers on a narrow terminal", async () => {
    const made = await initialized(64 * MIB, "gpt");
    for (let i = 0; i < 15; i++) await add(made, { size: MIB });
    const [, body] = drawDisk(await made.table(), 20);
    for (let number = 1; number <= 15; number++) expect(body).toContain(`│${number}`);
  });
});
