/** Names and numbers of xen-vbd-interface(7), and the listings of a real host. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { firstFree, parseVdev, vdevFromNumber, xvdDisk } from "#src/xen/blkif/vdev.js";

test.each([
  ["xvda", 51712],
  ["xvda1", 51713],
  ["xvda15", 51727],
  ["xvda16", 268435472],
  ["xvdb", 51728],
  ["xvdb2", 51730],
  ["xvde", 51776],
  ["xvdp", 51952],
  ["xvdp15", 51967],
  ["xvdq", 268439552],
  ["xvdq1", 268439553],
  ["xvdz", 268441856],
  ["xvdaa", 268442112],
  ["d536p37", 268572709],
  ["xvdfan", 269483776],
  ["xvdbgqcv255", 536870911],
  ["hda", 768],
  ["hda1", 769],
  ["hdb", 832],
  ["hdc", 5632],
  ["hdd", 5696],
  ["sda", 2048],
  ["sda1", 2049],
  ["sdb3", 2067],
  ["sdp15", 2303],
  ["d3p2", 51762],
  ["51936", 51936],
  ["0xca00", 51712],
] as const)("%s is %i", (name, number) => {
  expect(parseVdev(name).number).toBe(number);
});

test("numbers give the names that a guest shows", () => {
  expect(vdevFromNumber(51762).name).toBe("xvdd2");
  expect(vdevFromNumber(51936).name).toBe("xvdo");
  expect(vdevFromNumber(268572709).name).toBe("xvdtq37");
  expect(vdevFromNumber(5696).name).toBe("hdd");
});

test("every disk and partition survives the way there and back", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: (1 << 20) - 1 }), fc.integer({ min: 0, max: 255 }), (disk, partition) => {
      const name = `${xvdDisk(disk).name}${partition || ""}`;
      const vdev = parseVdev(name);
      expect(vdev).toMatchObject({ name, disk, partition });
      expect(vdevFromNumber(vdev.number)).toEqual(vdev);
    }),
  );
});

test.each([
  "xvd",
  "xvda01",
  "xvda-1",
  "XVDA",
  "xvda256",
  "hde",
  "sdq",
  "sda16",
  "xvdbgqcw",
  "xvdaaaaaaaaaa",
  "",
  "d1048576",
  "99",
  "0x7fffffff",
  "xvda 1",
])("%j is refused", (name) => {
  expect(() => parseVdev(name)).toThrow(expect.objectContaining({ code: "UNSUPPORTED" }));
});

test("the first free disk stands beside those of the domain, and has no name that is taken", () => {
  const used = [parseVdev("xvda"), parseVdev("xvdc1")];
  expect(firstFree(used).name).toBe("xvdb");
  expect(firstFree(used, (name) => name === "xvdb" || name === "xvdd").name).toBe("xvde");
});
