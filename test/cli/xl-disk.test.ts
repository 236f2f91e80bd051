/** Where a disk's target lies, and what the daemon is asked for. */
import { expect, test } from "vitest";
import { attachOfDisk, diskOfTarget } from "#src/cli/xl-disk.js";
import { parseDiskSpec } from "#src/xen/xl/disk.js";

const KINDS: Readonly<Record<string, "file" | "block" | "directory">> = {
  "/etc/xen/web.dsk": "file",
  "/etc/xen/vg/root": "file",
  "/dev/vg/root": "block",
  "/dev/vg/data": "block",
  "/dev/shm/x": "file",
  "/etc/passwd": "block",
};

test.each([
  ["/a/b.dsk", "/a/b.dsk"],
  ["web.dsk", "/etc/xen/web.dsk"],
  ["../web.dsk", "/etc/web.dsk"],
  ["vg/root", "/etc/xen/vg/root"], // the folder comes first
  ["vg/data", "/dev/vg/data"],
  ["shm/x", "/etc/xen/shm/x"], // no block device
  ["../etc/passwd", "/etc/etc/passwd"], // not below /dev
  ["none", "/etc/xen/none"],
  ["web.dsk#p2", "/etc/xen/web.dsk#p2"],
  ["nbd://host/x", "nbd://host/x"],
  ["nbd+unix:///x?socket=/s", "nbd+unix:///x?socket=/s"],
  ["dom:web1/xvda", "dom:web1/xvda"],
  ["odd:name", "/etc/xen/odd:name"],
])("%s is %s", (target, wanted) => {
  expect(diskOfTarget(target, "/etc/xen", (path) => KINDS[path] ?? null)).toBe(wanted);
});

test("the request holds the number, and what libxl would write", () => {
  expect(attachOfDisk(parseDiskSpec(["raw:a.dsk,d3p0,r", "no-discard"], "x.cfg"), "/etc/xen")).toEqual({
    disk: "/etc/xen/a.dsk",
    vdev: "51760",
    access: "ro",
    options: {
      dev: "d3p0",
      backendType: "phy",
      cdrom: false,
      directIoSafe: false,
      format: "raw",
      discard: false,
    },
  });
});
