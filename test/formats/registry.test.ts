/** How the format of a file is chosen: by -f, by name, and never by what a guest wrote. */
import { describe, expect, test } from "vitest";
import { chooseFormat, FORMATS, formatNamed, refuseLookalike } from "#src/formats/registry.js";

describe("the format of a file", () => {
  test.each(["guest.dsk", "guest.img", "guest.raw", "/x/GUEST.DSK", "a.qcow2.dsk"])("%s is raw, surely", (path) => {
    expect(chooseFormat(path)).toMatchObject({ format: { name: "raw" }, unsure: false });
  });

  test.each(["disk", "disk.bin", "/dev/sda", "guest.dsk.old", ".dsk"])(
    "%s is raw, unless it looks like something else",
    (path) => {
      expect(chooseFormat(path)).toMatchObject({ format: { name: "raw" }, unsure: true });
      expect(chooseFormat(path, "raw")).toMatchObject({ unsure: false });
    },
  );

  test.each(FORMATS.flatMap(({ name, extensions }) => extensions.map((extension) => [extension, name])))(
    "guest.%s is of format %s, by its name",
    (extension, name) => {
      for (const path of [`guest.${extension}`, `GUEST.${extension.toUpperCase()}`])
        expect(chooseFormat(path)).toMatchObject({ format: { name }, unsure: false });
    },
  );

  test("a.qed has no driver, and says so", () => {
    expect(() => chooseFormat("a.qed")).toThrow(/its name says qed, which this version cannot read or write, allowed /);
    expect(chooseFormat("a.qed", "raw").format.name).toBe("raw");
  });

  test("-f takes names that are known", () => {
    expect(formatNamed("raw").name).toBe("raw");
    for (const { name, aliases } of FORMATS)
      for (const one of [name, ...aliases]) expect(formatNamed(one).name).toBe(name);
    expect(() => formatNamed("qed")).toThrow(/cannot read or write it, allowed /);
    expect(() => formatNamed("bmp")).toThrow(/it is not known, allowed /);
  });

  test("contents only ever make us ask", () => {
    const heads: [string, string][] = [
      ["qcow2", "QFI\xfb\0\0\0\x03"],
      ["vmdk", "KDMV\x01"],
      ["vmdk", "# Disk DescriptorFile\n"],
      ["vhdx", "vhdxfile"],
      ["vhd", "conectix"],
      ["vdi", `${"<<< Oracle VM VirtualBox Disk Image >>>\n".padEnd(64, "\0")}\x7f\x10\xda\xbe`],
    ];
    for (const [name, head] of heads)
      expect(() => refuseLookalike("disk.bin", Buffer.from(head, "latin1"))).toThrow(
        new RegExp(`begin like ${name}, allowed with -f raw or -f ${name}`),
      );
    refuseLookalike("disk.bin", new Uint8Array(512));
    refuseLookalike("disk.bin", new Uint8Array(0));
  });

  test("no extension belongs to two formats", () => {
    const all = FORMATS.flatMap(({ extensions }) => extensions);
    expect(new Set(all).size).toBe(all.length);
  });
});
