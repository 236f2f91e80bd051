/** The names of disks. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseDiskName } from "#src/stack/disk-name.js";

const nothing = () => false;
const only =
  (...paths: string[]) =>
  (path: string) =>
    paths.includes(path);

describe("files", () => {
  test.each([
    ["guest.dsk", { kind: "file", path: "guest.dsk" }, null],
    ["guest.dsk#p2", { kind: "file", path: "guest.dsk" }, { kind: "partition", number: 2 }],
    ["/a b/guest.dsk#p15", { kind: "file", path: "/a b/guest.dsk" }, { kind: "partition", number: 15 }],
    ["guest.dsk#vg0/root", { kind: "file", path: "guest.dsk" }, { kind: "volume", group: "vg0", volume: "root" }],
    ["guest.dsk#p1/root", { kind: "file", path: "guest.dsk" }, { kind: "volume", group: "p1", volume: "root" }],
    ["./nbd:x", { kind: "file", path: "./nbd:x" }, null],
    ["C#p1#p2", { kind: "file", path: "C#p1" }, { kind: "partition", number: 2 }],
  ])("%s", (text, base, part) => {
    expect(parseDiskName(text, only("guest.dsk"))).toEqual({ text, base, part });
  });

  test("with # in their names: the longest that exists wins", () => {
    expect(parseDiskName("a#p2", only("a#p2", "a"))).toMatchObject({ base: { path: "a#p2" }, part: null });
    expect(parseDiskName("a#p1#p2", only("a#p1", "a"))).toMatchObject({ base: { path: "a#p1" }, part: { number: 2 } });
    expect(parseDiskName("dir#1/a.dsk#p3", only("dir#1/a.dsk"))).toMatchObject({
      base: { path: "dir#1/a.dsk" },
      part: { number: 3 },
    });
    expect(parseDiskName("dir#1/a.dsk", only("dir#1/a.dsk"))).toMatchObject({
      base: { path: "dir#1/a.dsk" },
      part: null,
    });
    expect(parseDiskName("dir#1/missing.dsk", nothing)).toMatchObject({ base: { path: "dir#1/missing.dsk" } });
  });

  test.each(["a.dsk#p0", "a.dsk#p1000", "a.dsk#2", "a.dsk#", "a.dsk#p1x", "a.dsk#-vg/x"])(
    "%s names no part of a.dsk",
    (text) => {
      expect(() => parseDiskName(text, only("a.dsk"))).toThrow(/names no part of a disk, allowed #p1/);
    },
  );
});

describe("other disks", () => {
  test.each([
    ["nbd://host:10809/export", { kind: "nbd", uri: "nbd://host:10809/export" }, null],
    [
      "nbd+unix:///e?socket=/run/s#p3",
      { kind: "nbd", uri: "nbd+unix:///e?socket=/run/s" },
      { kind: "partition", number: 3 },
    ],
    ["dom:web1/xvda", { kind: "domain", domain: "web1", vdev: "xvda" }, null],
    ["dom:0/xvda2", { kind: "domain", domain: "0", vdev: "xvda2" }, null],
    ["dom:web1/xvdb#p2", { kind: "domain", domain: "web1", vdev: "xvdb" }, { kind: "partition", number: 2 }],
    ["lvm:vg0/root", { kind: "volume", group: "vg0", volume: "root" }, null],
    [
      "backup:/srv/r@latest/web.dsk",
      { kind: "backup", repository: "/srv/r", snapshot: "latest", disk: "web.dsk" },
      null,
    ],
    [
      "backup:r@x/a/b#p1",
      { kind: "backup", repository: "r", snapshot: "x", disk: "a/b" },
      { kind: "partition", number: 1 },
    ],
  ])("%s", (text, base, part) => {
    expect(parseDiskName(text, nothing)).toEqual({ text, base, part });
  });

  test.each([
    "",
    "dom:web1",
    "dom:/xvda",
    "dom:a/b/c",
    "lvm:vg0",
    "lvm:/x",
    "backup:r",
    "backup:r@s",
    "lvm:a/b#c/d",
    "nbd://h/e#x",
  ])("%j is refused as wrong usage", (text) => {
    expect(() => parseDiskName(text, nothing)).toThrow(
      expect.objectContaining({ code: "UNSUPPORTED", details: expect.objectContaining({ usage: true }) }),
    );
  });

  test("any text is a name or is refused, in bounded time", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(dom|lvm|nbd|backup)?:?[a-z#/@p1.]{0,40}$/)), (text) => {
        try {
          expect(parseDiskName(text, nothing).text).toBe(text);
        } catch (error) {
          expect(error).toMatchObject({ name: "DiskError" });
        }
      }),
    );
  });
});
