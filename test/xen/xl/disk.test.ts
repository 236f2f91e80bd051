/** xl-disk-configuration(5): every key, flag, place, deprecated form and error text. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { COMMAND_LINE, parseDiskSpec, type XlDisk } from "#src/xen/xl/disk.js";

const PLAIN: Omit<XlDisk, "spec"> = {
  target: "/dev/vg/guest",
  format: "raw",
  formatGiven: false,
  vdev: "hda",
  access: "rw",
  cdrom: false,
  backend: null,
  backendType: null,
  script: null,
  specification: null,
  discard: null,
  trusted: null,
  grantUsage: null,
  directIoSafe: false,
  colo: false,
};

const RAW = { formatGiven: true };

describe("forms", () => {
  test.each<[spec: string | readonly string[], wanted: Partial<XlDisk>]>([
    // The manual's own ways to say one disk.
    ["/dev/vg/guest,,hda", {}],
    ["/dev/vg/guest,raw,hda,rw", RAW],
    ["format=raw, vdev=hda, access=rw, target=/dev/vg/guest", RAW],
    ["raw:/dev/vg/guest,hda,w", RAW],
    ["/srv/image.iso,,hdc,cdrom", { target: "/srv/image.iso", vdev: "hdc", cdrom: true, access: "ro" }],
    ["/srv/image.iso,,hdc,,cdrom", { target: "/srv/image.iso", vdev: "hdc", cdrom: true, access: "ro" }],
    [
      "format=raw, vdev=hdc, access=ro, devtype=cdrom, target=/srv/image.iso",
      { ...RAW, target: "/srv/image.iso", vdev: "hdc", cdrom: true, access: "ro" },
    ],
    ["raw:/srv/image.iso,hdc:cdrom,ro", { ...RAW, target: "/srv/image.iso", vdev: "hdc", cdrom: true, access: "ro" }],
    [",,hdc,,cdrom", { target: "", format: "empty", vdev: "hdc", cdrom: true, access: "ro" }],
    ["vdev=hdc,access=r,devtype=cdrom", { target: "", format: "empty", vdev: "hdc", cdrom: true, access: "ro" }],
    [",hdc:cdrom,r", { target: "", format: "empty", vdev: "hdc", cdrom: true, access: "ro" }],
    [
      "vdev=hdc,access=r,devtype=cdrom,format=empty",
      { ...RAW, target: "", format: "empty", vdev: "hdc", cdrom: true, access: "ro" },
    ],
    // Blanks: before a token they do not count, within and behind they do.
    [" \t/dev/vg/guest,\n\traw, hda", RAW],
    ["/dev/vg/guest,raw,hda,rw,   ", RAW],
    ["/dev/a b ,,hda", { target: "/dev/a b " }],
    ["vdev=hda,target=/dev/vg/guest, 50%=x,y  ", { target: "/dev/vg/guest, 50%=x,y  " }],
    ["vdev=hda,target=/dev/vg/guest,", {}],
    ["vdev=hda,target=/dev/vg/guest,,", { target: "/dev/vg/guest," }],
    ["vdev=hda,target= /x", { target: " /x" }],
    // Places are filled in order, past what keys have said.
    ["format=raw,/dev/vg/guest,hda", RAW],
    ["vdev=hda,/dev/vg/guest", {}],
    ["vdev=hda,/dev/vg/guest,raw,ro", { ...RAW, access: "ro" }],
    ["/dev/vg/guest,raw,hda,", RAW],
    ["/dev/vg/guest,raw,hda,,direct-io-safe", { ...RAW, directIoSafe: true }],
    ["access=ro,/dev/vg/guest,,hda,w", {}],
    // Several texts are one disk.
    [["/dev/vg/guest", "raw", "hda", "ro"], { ...RAW, access: "ro" }],
    [["vdev=hda", "no-discard", "target=/dev/vg/guest"], { discard: false }],
    [["file:/dev/vg/guest,hda", "w"], {}],
  ])("%j", (spec, wanted) => {
    const texts = typeof spec === "string" ? [spec] : spec;
    const { spec: said, ...disk } = parseDiskSpec(texts, COMMAND_LINE);
    expect(disk).toEqual({ ...PLAIN, ...wanted });
    expect(said).toBe(texts.join(","));
  });

  test.each<[token: string, wanted: Partial<XlDisk>]>([
    ["format=raw", RAW],
    ["format=", {}],
    ["format=raw,format=raw", RAW],
    ["format=,format=raw", RAW],
    ["format=qcow", { ...RAW, format: "qcow" }],
    ["format=qcow2", { ...RAW, format: "qcow2" }],
    ["format=vhd", { ...RAW, format: "vhd" }],
    ["format=qed", { ...RAW, format: "qed" }],
    ["format=empty", { ...RAW, format: "empty" }],
    ["access=ro", { access: "ro" }],
    ["access=r", { access: "ro" }],
    ["access=rw", {}],
    ["access=w", {}],
    ["access=", {}],
    ["access=ro,access=rw", {}],
    ["devtype=disk", {}],
    ["devtype=cdrom", { cdrom: true, access: "ro" }],
    ["cdrom", { cdrom: true, access: "ro" }],
    ["cdrom,devtype=disk", {}],
    ["cdrom,access=rw", { cdrom: true, access: "ro" }],
    ["backend=storage", { backend: "storage" }],
    ["backend=", {}],
    ["backend=,backend=4", { backend: "4" }],
    ["backendtype=phy", { backendType: "phy" }],
    ["backendtype=qdisk", { backendType: "qdisk" }],
    ["backendtype=tap", { backendType: "tap" }],
    ["backendtype=standalone", { backendType: "standalone" }],
    ["backendtype=phy,backendtype=phy", { backendType: "phy" }],
    ["script=block-drbd", { script: "block-drbd" }],
    ["script=/a/b c", { script: "/a/b c" }],
    ["direct-io-safe", { directIoSafe: true }],
    ["discard", { discard: true }],
    ["no-discard", { discard: false }],
    ["no-discard,discard", { discard: true }],
    ["trusted", { trusted: true }],
    ["untrusted", { trusted: false }],
    ["specification=xen", { specification: "xen" }],
    ["specification=virtio", { specification: "virtio" }],
    ["grant_usage=1", { grantUsage: true }],
    ["grant_usage=0", { grantUsage: false }],
    ["colo", { colo: true }],
    ["colo,no-colo", {}],
    ["colo,colo-host=h,colo-port=9000,colo-export=e,active-disk=a,hidden-disk=b", { colo: true }],
  ])("%s", (token, wanted) => {
    const { spec, ...disk } = parseDiskSpec([`${token},vdev=hda,target=/dev/vg/guest`], COMMAND_LINE);
    expect(disk).toEqual({ ...PLAIN, ...wanted });
    expect(spec).toContain(token);
  });

  test.each<[prefixes: string, wanted: Partial<XlDisk>]>([
    ["raw:", RAW],
    ["qcow:", { ...RAW, format: "qcow" }],
    ["qcow2:", { ...RAW, format: "qcow2" }],
    ["vhd:", { ...RAW, format: "vhd" }],
    ["iscsi:", { script: "block-iscsi" }],
    ["nbd:", { script: "block-nbd" }],
    ["enbd:", { script: "block-enbd" }],
    ["drbd:", { script: "block-drbd" }],
    ["tapdisk:", {}],
    ["tap:", {}],
    ["tap2:", {}],
    ["aio:", {}],
    ["ioemu:", {}],
    ["file:", {}],
    ["phy:", {}],
    ["tap:aio:", {}],
    ["tap2:tapdisk:raw:", RAW],
    ["tap:qcow2:", { ...RAW, format: "qcow2" }],
  ])("the deprecated %s", (prefixes, wanted) => {
    for (const [type, cdrom] of [
      ["", false],
      [":disk", false],
      [":cdrom", true],
    ] as const) {
      const { spec: _, ...disk } = parseDiskSpec([`${prefixes}/dev/vg/guest,hda${type},r`], COMMAND_LINE);
      expect(disk).toEqual({ ...PLAIN, access: "ro", cdrom, ...wanted });
    }
  });
});

describe("errors", () => {
  test.each([
    ["/x,,hda,maybe", "unknown value for access", "maybe"],
    ["vdev=xvdz,access=w!,target=/x", "unknown value for access", "w!"],
    ["/x,vmdk,hda", "unknown value for format", "vmdk"],
    ["format=RAW,vdev=hda,target=/x", "unknown value for format", "RAW"],
    ["backendtype=blk,vdev=hda,target=/x", "unknown value for backendtype", "blk"],
    ["backendtype=,vdev=hda,target=/x", "unknown value for backendtype", ""],
    ["devtype=floppy,vdev=hda,target=/x", "unknown value for type", "devtype=floppy,"],
    ["vdev=hda,devtype=", "unknown value for type", "devtype="],
    ["specification=nvme,vdev=hda,target=/x", "unknown value for specification", "nvme"],
    ["colo-port=0,vdev=hda,target=/x", "unknown value for colo_port", "0"],
    ["colo-port=http,vdev=hda,target=/x", "unknown value for colo_port", "http"],
    ["unknown=12,vdev=hda,target=/x", "unknown parameter", "unknown=12"],
    ["readonly=,vdev=hda,target=/x", "unknown parameter", "readonly="],
    ["discard=on,vdev=hda,target=/x", "unknown parameter", "discard=on"],
    ["grant_usage=2,vdev=hda,target=/x", "unknown parameter", "grant_usage=2,"],
    ["constructor=1", "unknown parameter", "constructor=1"],
    ["vmdk:/x,hda,w", "unknown deprecated disk prefix", "vmdk:"],
    ["foo:", "unknown deprecated disk prefix", "foo:"],
    ["tap:foo:/x,hda,w", "unknown deprecated disk prefix", "foo:"],
    ["file:/x,hda:floppy,w", "unknown deprecated type", "floppy"],
    [",hda:tape,w", "unknown deprecated type", "tape"],
    ["/x,raw,hda,rw,more", "too many positional parameters", "more"],
    ["/x,,hda,,,", "too many positional parameters", ""],
    ["/x,,hda,=", "bad disk syntax", "="],
    ["=,vdev=hda", "bad disk syntax", "=,vdev=hda"],
    ["/x=y,,hda", "bad disk syntax", "=y,,hda"],
    ["VDEV=hda,target=/x", "bad disk syntax", "=hda,target=/x"],
    ["vdev =hda,target=/x", "bad disk syntax", "=hda,target=/x"],
    ["/x\0y,,hda", "bad disk syntax", "\\x00y,,hda"],
    ["vdev=hda,target=/x\0y", "bad disk syntax", "\\x00y"],
    ["vdev=xvdz,vdev=xvdy,target=/x", "vdev respecified", "xvdy"],
    ["vdev=xvdz,vdev=xvdz,target=/x", "vdev respecified", "xvdz"],
    ["/x,,hda,target=/y", "target respecified", "/y"],
    ["format=raw,format=vhd,vdev=hda,target=/x", "format respecified", "vhd"],
    ["qcow2:raw:/x,hda,w", "format respecified", "raw"],
    ["backendtype=phy,backendtype=qdisk", "backend respecified", "qdisk"],
    ["specification=xen,specification=virtio", "specification respecified", "virtio"],
    ["backend=a,backend=b", "backend respecified", "b"],
    ["script=a,script=b", "script respecified", "b"],
    ["nbd:iscsi:/x,hda,w", "script respecified", "block-iscsi"],
    ["colo-host=a,colo-host=b", "colo-host respecified", "b"],
    ["colo-export=a,colo-export=b", "colo-export respecified", "b"],
    ["active-disk=a,active-disk=b", "active-disk respecified", "b"],
    ["hidden-disk=a,hidden-disk=b", "hidden-disk respecified", "b"],
    ["/x\x1b[2J,vmdk\n", "unknown value for format", "vmdk\\x0a"],
  ])("%j: %s near %j", (spec, message, near) => {
    expect(() => parseDiskSpec([spec], "web.cfg")).toThrow(
      expect.objectContaining({
        code: "UNSUPPORTED",
        message: expect.stringContaining(
          `web.cfg: config parsing error in disk specification: ${message}: near \`${near}' in \`${spec.slice(0, 2)}`,
        ),
      }),
    );
  });

  test.each([
    ["/x", "no vdev specified in `/x'"],
    ["", "no vdev specified in `'"],
    ["vdev=hda", "no target specified (and device not removable) in `vdev=hda'"],
  ])("%j is not enough", (spec, message) => {
    expect(() => parseDiskSpec([spec], "a.cfg")).toThrow(
      expect.objectContaining({ message: `a.cfg: config parsing error in disk specification: ${message}` }),
    );
  });

  test("the text with the error is the one that is shown, and on the command line it is wrong usage", () => {
    expect(() => parseDiskSpec(["vdev=hda", "vdev=hdb"], COMMAND_LINE)).toThrow(
      expect.objectContaining({
        message: "command line: config parsing error in disk specification: vdev respecified: near `hdb' in `vdev=hdb'",
        details: expect.objectContaining({ usage: true }),
      }),
    );
    expect(() => parseDiskSpec(["x"], "a.cfg")).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ usage: false }) }),
    );
  });

  test.each([
    ["long", ["x".repeat(20_000)]],
    ["many", Array.from({ length: 65 }, () => "colo")],
  ])("what is too %s is refused", (_, texts) => {
    expect(() => parseDiskSpec(texts, COMMAND_LINE)).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
  });
});

describe("any text", () => {
  const words = fc.constantFrom(
    ...[
      "vdev=",
      "target=",
      "format=",
      "access=",
      "raw",
      "xvda",
      "cdrom",
      "discard",
      ":",
      ",",
      "=",
      " ",
      "\n",
      "\0",
      "/x",
    ],
    ...[
      "phy:",
      "tap:",
      "foo:",
      "qcow2:",
      "nbd:",
      "backendtype=qdisk",
      "hdc:cdrom",
      "ro",
      "grant_usage=1",
      "é",
      "Z_",
      "-",
    ],
  );
  const texts = fc.array(
    fc.oneof(
      fc.array(words).map((parts) => parts.join("")),
      fc.string(),
    ),
    { maxLength: 4 },
  );

  test("ends in a disk or in one line of error", () => {
    fc.assert(
      fc.property(texts, (specs) => {
        try {
          const disk = parseDiskSpec(specs, "a.cfg");
          expect(disk.access === "ro" || !disk.cdrom).toBe(true);
          expect(disk.format === "empty" || disk.target !== "" || !disk.cdrom).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(DiskError);
          expect((error as DiskError).code).toBe("UNSUPPORTED");
          // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be printed
          expect((error as DiskError).message).not.toMatch(/[\x00-\x1f]/);
        }
      }),
      { numRuns: 3000 },
    );
  });

  test("the longest of each kind is read in time that grows no faster than the text", () => {
    for (const part of ["a", "a=", ",", " ", ":", "tap:", "cdrom,", "a:", "=", "-", "\n", "target="])
      try {
        parseDiskSpec(
          Array.from({ length: 8 }, () => part.repeat(Math.floor((16 << 10) / part.length))),
          "a.cfg",
        );
      } catch (error) {
        expect(error).toBeInstanceOf(DiskError);
      }
  });

  test("what keys say is what is understood, in any order", () => {
    const value = fc.stringMatching(/^[a-z0-9/._:-]{1,12}$/);
    const said = fc.record(
      {
        format: fc.constantFrom("raw", "qcow", "qcow2", "vhd", "qed"),
        access: fc.constantFrom("rw", "ro"),
        backend: value,
        backendtype: fc.constantFrom("phy", "qdisk", "tap", "standalone"),
        script: value,
        specification: fc.constantFrom("xen", "virtio"),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(said, value, value, fc.infiniteStream(fc.nat()), (keys, vdev, target, order) => {
        const parts = [...Object.entries({ ...keys, vdev })]
          .map(([key, text]) => ({ part: `${key}=${text}`, rank: order.next().value }))
          .sort((a, b) => a.rank - b.rank)
          .map(({ part }) => part);
        expect(parseDiskSpec([[...parts, `target=${target}`].join(", ")], "a.cfg")).toMatchObject({
          vdev,
          target,
          format: keys.format ?? "raw",
          access: keys.access ?? "rw",
          backend: keys.backend ?? null,
          backendType: keys.backendtype ?? null,
          script: keys.script ?? null,
          specification: keys.specification ?? null,
        });
      }),
    );
  });
});
