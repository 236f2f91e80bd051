/** What this host does with each word of a disk specification, and what it refuses. */
import { describe, expect, test } from "vitest";
import { backendKeys, frontendKeys } from "#src/xen/toolstack-keys.js";
import { COMMAND_LINE, parseDiskSpec } from "#src/xen/xl/disk.js";
import { vbdOfDisk } from "#src/xen/xl/vbd.js";

const vbd = (spec: string) => vbdOfDisk(parseDiskSpec([spec], COMMAND_LINE));

/** Both directories of domain 3's disk, as libxl would fill them. */
function keys(spec: string) {
  const { vdev, target, access, options } = vbd(spec);
  const id = { domid: 3, devid: vdev.number };
  const whole = { vdev, target, writable: access === "rw", options };
  return { backend: backendKeys(id, whole), frontend: frontendKeys(id, whole) };
}

describe("keys of the toolstack", () => {
  test("a plain disk", () => {
    expect(keys("/a,raw,xvda,w")).toEqual({
      backend: {
        frontend: "/local/domain/3/device/vbd/51712",
        params: "/a",
        script: "xvdkit",
        "frontend-id": 3,
        online: 1,
        removable: 0,
        bootable: 1,
        dev: "xvda",
        type: "phy",
        mode: "w",
        "device-type": "disk",
        "discard-enable": 1,
        specification: "xen",
        state: 1,
      },
      frontend: {
        backend: "/local/domain/0/backend/vbd/3/51712",
        "backend-id": 0,
        "virtual-device": 51712,
        "device-type": "disk",
        trusted: 1,
        protocol: "x86_64-abi",
        state: 1,
      },
    });
  });

  test.each([
    ["/a,raw,xvda,r", { mode: "r", "discard-enable": 0 }, {}],
    ["/a,raw,xvda,r,discard", { mode: "r", "discard-enable": 1 }, {}],
    ["/a,raw,xvda,w,no-discard", { "discard-enable": 0 }, {}],
    ["/a,raw,xvda,w,direct-io-safe", { "direct-io-safe": 1 }, {}],
    ["/a,raw,xvda,w,untrusted", {}, { trusted: 0 }],
    ["/a,raw,xvda,w,trusted", {}, { trusted: 1 }],
    ["/a,raw,hdc:cdrom,w", { removable: 1, "device-type": "cdrom", mode: "r", dev: "hdc" }, { "device-type": "cdrom" }],
    ["/a,raw,xvda,w,backendtype=phy,specification=xen", { type: "phy", params: "/a", script: "xvdkit" }, {}],
    ["/a,raw,xvda,w,backendtype=qdisk", { type: "qdisk", params: "aio:/a" }, {}],
    ["/a,raw,d536p37,w", { dev: "d536p37" }, { "virtual-device": 268572709 }],
    ["/a,raw,0xca20,w", { dev: "0xca20" }, { "virtual-device": 51744 }],
    ["/a,raw,xvda,w,backend=0", {}, { "backend-id": 0 }],
  ])("%s", (spec, backend, frontend) => {
    const written = keys(spec);
    expect(written.backend).toMatchObject(backend);
    expect(written.frontend).toMatchObject(frontend);
  });

  test("QEMU's disks have no script, and direct-io-safe is written only when it was asked for", () => {
    expect(keys("/a,raw,xvda,w,backendtype=qdisk").backend).not.toHaveProperty("script");
    expect(keys("/a,raw,xvda,w").backend).not.toHaveProperty("direct-io-safe");
  });
});

test("the default format leaves the choice to the file's name, raw takes it as it is", () => {
  expect(vbd("/a.qcow2,raw,xvda").options.format).toBe("raw");
  expect(vbd("vdev=xvda,target=/a.qcow2").options.format).toBe(undefined);
  expect(vbd("/a.qcow2,,xvda").options.format).toBe(undefined);
  expect(vbd("/a,qcow2,xvda,w").options).toMatchObject({ format: "qcow2", backendType: "qdisk" });
});

test.each([
  ["/a,raw,floppy,w", /Invalid or unsupported virtual disk identifier: "floppy"/],
  ["/a,raw,xvd,w", /Invalid or unsupported/],
  ["vdev=,target=/a", /Invalid or unsupported virtual disk identifier: ""/],
  ["/a,raw,xvda01,w", /Invalid or unsupported/],
  ["/a,raw,d1048576,w", /Invalid or unsupported/],
  ["vdev=xvda,format=empty,target=/a", /Disk vdev=xvda is empty but not cdrom/],
  ["/a,empty,hdc,r,cdrom", /empty but an image has been provided: \/a/],
  [",hdc:cdrom,r", /Disk vdev=hdc is empty: no frontend/],
  [",raw,xvda", /failed to stat: the target is ""/],
  ["/a,raw,xvda,w,backend=storage", /backend is "storage", a driver domain/],
  ["/a,raw,xvda,w,backendtype=tap", /no suitable backend for disk xvda: backendtype is tap/],
  ["/a,vhd,xvda,w,backendtype=tap", /no suitable backend for disk xvda: backendtype is tap/],
  ["/a,raw,xvda,w,backendtype=standalone", /no suitable backend for disk xvda: .*virtio alone/],
  ["/a,raw,xvda,w,backendtype=standalone,specification=virtio", /no suitable backend for disk xvda: .*device model/],
  ["/a,raw,xvda,w,specification=virtio", /no suitable backend.*specification=xen/],
  ["/a,raw,xvda,w,grant_usage=1", /grant_usage goes with/],
  ["/a,raw,xvda,w,colo", /colo needs/],
  ["/a,raw,xvda,w,script=block-x", /script is "block-x", a program/],
  ["nbd:/a,xvda,w", /script is "block-nbd"/],
  [
    "/a,raw,xvda,w,script=block-x,backendtype=qdisk",
    /no suitable backend.*qdisk is not compatible with script=block-x/,
  ],
  ["/a,qcow2,xvda,w,backendtype=phy", /backend phy is unsuitable due to format qcow2/],
  ["/a,qcow,xvda,w", /format is qcow,/],
  ["/a,qed,xvda,w,backendtype=phy", /no suitable backend for disk xvda: backend phy is unsuitable due to format qed/],
])("%s is refused", (spec, message) => {
  expect(() => vbd(spec)).toThrow(
    expect.objectContaining({ code: "UNSUPPORTED", message: expect.stringMatching(message) }),
  );
});
