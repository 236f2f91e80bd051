/** Power cuts: behind every write, with and without what was not flushed. The other types are in cuts.long.test.ts. */
import { expect, test } from "vitest";
import { contentsOf, expectAlike, expectWholeAfterCuts, Log } from "./cuts-support.js";
import { flakyDisk, raidWorld, worldOf } from "./support.js";

const KIB = 1024;

test.each([
  ["raid1", true],
  ["raid5", false],
  ["mirror", true],
] as const)("%s is whole after a cut behind any write, losing what was not flushed: %s", expectWholeAfterCuts);

test("a cut while a leg is being left out, and while it comes back", async () => {
  const made = await raidWorld(
    { type: "raid1", mirrors: 1 },
    { disks: 2, count: 12, size: 2 << 20, extentSize: 16 * KIB },
  );
  const before = await made.open();
  await before.write(0, new Uint8Array(before.size).fill(1));
  await before.close();
  const start = made.disks.map(({ bytes }) => bytes.slice());
  const log = new Log();
  const world = worldOf(made.group, log.watch(made.disks));
  const second = world.devices.get("pv1")!;
  world.devices.set("pv1", null);
  const degraded = await world.open();
  await degraded.write(100, new Uint8Array(70000).fill(2));
  await degraded.flush();
  const written = log.writes.length;
  await degraded.close();
  world.devices.set("pv1", second);
  await (await world.open()).close();
  for (let cut = 0; cut <= log.writes.length; cut++) {
    const left = worldOf(
      made.group,
      log.after(start, cut, true).map((each, i) => flakyDisk(each, `disk${i}`)),
    );
    const device = await left.open();
    const found = await contentsOf(device);
    await device.close();
    expect(found.every((byte, i) => byte === 1 || (byte === 2 && i >= 100 && i < 70100))).toBe(true);
    if (cut >= written) expect(found.subarray(100, 70100).every((byte) => byte === 2)).toBe(true);
    await expectAlike(left, found, 2, 1);
  }
});
