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

  test.each(["a.vhd", "a.vhdx", "a.vmdk", "a.vdi", "A.VDI", "a.qed"])("%s has no driver yet, and says so", (path) => {
    expect(() => chooseFormat(path)).toThrow(/its name says \w+, which this version cannot read or write, allowed raw/);
    expect(chooseFormat(path, "raw").format.name).toBe("raw");
  });

  test("-f takes names that are known", () => {
    expect(formatNamed("raw").name).toBe("raw");
    expect(() => formatNamed("qed")).toThrow(/cannot read or write it, allowed raw/);
    expect(() => formatNamed("bmp")).toThrow(/it is not known, allowed raw/);
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
