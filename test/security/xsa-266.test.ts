/** XSA-266 (CVE-2018-12892): a disk that was configured read-only could be written. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { backendOfThreads } from "../dom0/raw-guest.js";
import { tempDir } from "../support/temp-dir.js";
import { xvdWorld } from "../support/xvd.js";

const dir = tempDir();
const backend = backendOfThreads(dir);
afterAll(() => backend.pool.stop());

test("every request that would change a read-only disk is refused, whatever the frontend grants", async () => {
  const disk = `${dir}/ro.dsk`;
  writeFileSync(disk, Buffer.alloc(1 << 20, "read only"));
  const before = { bytes: readFileSync(disk), modified: statSync(disk).mtimeMs };
  const raw = await backend.guest(disk, false);
  const segments = [{ gref: raw.refs[0]! }];
  for (const request of [
    { op: 1, segments },
    { op: 2, segments },
    { op: 2 },
    { op: 3, segments },
    { op: 5, nrSectors: 8n },
  ])
    expect([request.op, await raw.verdict(request)]).toEqual([request.op, -1]);
  expect(await raw.verdict({ op: 3 })).toBe(0); // nothing to flush is no error
  expect(await raw.verdict({ op: 0, segments })).toBe(0);
  expect(Buffer.from(raw.data.bytes.subarray(0, 9)).toString()).toBe("read only");
  await backend.pool.remove(raw.id);
  expect(readFileSync(disk).equals(before.bytes)).toBe(true);
  expect(statSync(disk).mtimeMs).toBe(before.modified);
});

test.each(["hda", "sda", "xvda"])("as %s, with ro in each place of an xl specification", async (vdev) => {
  const world = xvdWorld();
  await world.xvd("create", "a.dsk", "1M");
  for (const spec of [
    `format=raw,vdev=${vdev},access=ro,target=${world.path("a.dsk")}`,
    `${world.path("a.dsk")},raw,${vdev},r`,
  ]) {
    await world.xvd("block-attach", "0", spec);
    const [device] = await world.json<{ vdev: string; access: string }[]>("list");
    expect(device!.access).toBe("ro");
    const { code, stderr } = await world.run(["io", `dom:0/${device!.vdev}`, "-c", "write 0 4k"]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/read-?only/i) });
    await world.xvd("detach", device!.vdev);
  }
});
