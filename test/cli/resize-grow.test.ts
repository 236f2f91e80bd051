/** `xvd resize --grow`: the disk and its last partition grow together, and what stands behind the promise of the table. */
import { expect, test } from "vitest";
import { xvdWorld } from "../support/xvd.js";

test("the last partition takes the new space; another one does not, and nothing is changed then", async () => {
  const world = xvdWorld();
  await world.xvd("create", "a.dsk", "64M");
  await world.xvd("part", "init", "a.dsk", "gpt");
  for (const size of ["10M", "20M"]) await world.xvd("part", "add", "a.dsk", "--size", size);
  await world.xvd("io", "a.dsk#p2", "-c", "write -P 7 0 20M");
  for (const [grow, code, message] of [
    ["p1", 1, /partition 2 lies between it and the end/],
    ["p3", 1, /none of this number, allowed 1 2/],
    ["2", 2, /allowed are partitions, p1 to p15/],
  ] as const) {
    const result = await world.run(["resize", "a.dsk", "128M", "--grow", grow]);
    expect({ code: result.code, stderr: result.stderr }).toEqual({ code, stderr: expect.stringMatching(message) });
  }
  expect(await world.json("info", "a.dsk")).toMatchObject({ "virtual-size": 64 << 20 });
  await world.xvd("resize", "a.dsk", "128M", "--grow", "p2");
  const { partitiontable } = await world.json<{ partitiontable: { partitions: { start: number; size: number }[] } }>(
    "part",
    "list",
    "a.dsk",
  );
  expect(partitiontable.partitions).toMatchObject([
    { start: 2048, size: 20480 },
    { start: 22528, size: (116 << 20) / 512 },
  ]);
  await world.xvd("io", "a.dsk#p2", "-c", "read -P 7 0 20M", "-c", "read -P 0 20M 96M");
});
