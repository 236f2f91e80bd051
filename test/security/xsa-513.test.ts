/** XSA-513 and XSA-521: flaws of backends in user space. What a hostile frontend can send goes to a real thread of ours. */
import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { backendOfThreads } from "../dom0/raw-guest.js";
import { createRawDisk } from "../support/raw-disk.js";
import { tempDir } from "../support/temp-dir.js";

const dir = tempDir();
const backend = backendOfThreads(dir);
afterAll(() => backend.pool.stop());

const OKAY = 0;
const ERROR = -1;
const EOPNOTSUPP = -2;

test("each bad request is answered with its verdict, maps nothing, and the next good one is served", async () => {
  const disk = createRawDisk(dir, "judged.dsk", 1 << 20);
  const raw = await backend.guest(disk);
  raw.data.bytes.fill(0x66);
  const [good] = raw.refs;
  const readonly = raw.guest.grants.grantAccess(0, raw.data.firstFrame, true);
  const foreign = raw.guest.grants.grantAccess(5, raw.data.firstFrame, false);
  const one = [{ gref: good! }];
  const many = raw.refs.slice(0, 11).map((gref) => ({ gref }));
  const mapped = raw.mapped();
  const cases: [string, Parameters<typeof raw.verdict>[0], number][] = [
    ["an unknown operation", { op: 77, segments: one }, EOPNOTSUPP],
    ["the reserved operation", { op: 4 }, EOPNOTSUPP],
    ["no segments", { op: 1 }, ERROR],
    ["twelve segments", { op: 1, segments: many, nrSegments: 12 }, ERROR],
    ["255 segments", { op: 0, segments: many, nrSegments: 255 }, ERROR],
    ["sectors behind the page", { op: 1, segments: [{ gref: good!, first: 0, last: 8 }] }, ERROR],
    ["last before first", { op: 1, segments: [{ gref: good!, first: 5, last: 4 }] }, ERROR],
    ["behind the end", { op: 1, segments: one, sector: 2048n }, ERROR],
    ["across the end", { op: 1, segments: one, sector: 2041n }, ERROR],
    ["a sector number that overflows", { op: 1, segments: one, sector: 2n ** 64n - 1n }, ERROR],
    ["one whose bytes overflow", { op: 1, segments: one, sector: 2n ** 55n }, ERROR],
    ["a discard behind the end", { op: 5, sector: 2000n, nrSectors: 100n }, ERROR],
    ["a discard that overflows", { op: 5, sector: 8n, nrSectors: 2n ** 64n - 4n }, ERROR],
    ["a grant that is none", { op: 1, segments: [{ gref: 20_000 }] }, ERROR],
    ["a grant beyond the table", { op: 1, segments: [{ gref: 0xffff_ffff }] }, ERROR],
    ["another domain's grant", { op: 1, segments: [{ gref: foreign }] }, ERROR],
    ["a read into a page that may not be written", { op: 0, segments: [{ gref: readonly }] }, ERROR],
    ["an indirect request of operation 6", { op: 6, nrSegments: 6 }, ERROR],
  ];
  for (const [what, request, status] of cases) {
    expect([what, await raw.verdict(request)]).toEqual([what, status]);
    expect([what, raw.mapped()]).toEqual([what, mapped]);
  }
  expect(readFileSync(disk).every((byte) => byte === 0)).toBe(true);
  expect(await raw.verdict({ op: 1, segments: many, sector: 0n })).toBe(OKAY);
  expect(
    readFileSync(disk)
      .subarray(0, 11 * 4096)
      .every((byte) => byte === 0x66),
  ).toBe(true);
  expect(await raw.verdict({ op: 5, sector: 0n, nrSectors: 2048n })).toBe(OKAY);
  const statistics = await backend.pool.statistics(raw.id);
  expect(statistics).toMatchObject({ errors: cases.length, wr_req: 1, ds_req: 1, failure: null });
  await backend.pool.disconnect(raw.id);
  expect(raw.mapped()).toBe(0);
  await backend.pool.remove(raw.id);
});

test("an impossible index stops that ring for good; a neighbour on the same thread goes on, and it may connect again", async () => {
  const guests = await Promise.all(
    Array.from({ length: 6 }, (_, i) => backend.guest(createRawDisk(dir, `near${i}.dsk`, 1 << 20))),
  );
  const [liar, ...others] = guests;
  liar!.setReqProd(33);
  liar!.storm(100);
  for (const other of others) expect(await other.verdict({ op: 0, segments: [{ gref: other.refs[0]! }] })).toBe(OKAY);
  expect(Atomics.load(liar!.words, 2)).toBe(0); // nothing was answered
  expect((await backend.pool.statistics(liar!.id))!.failure).toMatch(/published 33 requests, allowed 32/);
  liar!.setReqProd(1); // too late
  for (const other of others) expect(await other.verdict({ op: 3 })).toBe(OKAY);
  expect(Atomics.load(liar!.words, 2)).toBe(0);
  for (const { id } of guests) {
    await backend.pool.disconnect(id);
    await backend.pool.remove(id);
  }
  for (const each of guests) expect(each.mapped()).toBe(0);
});

test("a storm of events and full rings from one guest: the others are served, and memory stays flat", async () => {
  const [mad, calm] = [
    await backend.guest(createRawDisk(dir, "mad.dsk", 1 << 20)),
    await backend.guest(createRawDisk(dir, "calm.dsk", 1 << 20)),
  ];
  for (let round = 0; round < 200; round++) {
    mad.put({ op: 0, segments: mad.refs.slice(0, 11).map((gref) => ({ gref })) }, 32);
    mad.storm(500);
    if (round % 20 === 0) expect(await calm.verdict({ op: 0, segments: [{ gref: calm.refs[0]! }] })).toBe(OKAY);
    expect(await mad.settled((round + 1) * 32)).toBe(true);
  }
  const { rings } = (await backend.pool.statistics(mad.id))!;
  expect(rings).toMatchObject([{ req_prod: 6400, req_cons: 6400, rsp_prod: 6400, in_flight: 0 }]);
  for (const { id } of [mad, calm]) await backend.pool.remove(id);
  expect(mad.mapped()).toBe(0);
  expect(backend.errors).toEqual([]);
});

test("a guest that is destroyed with requests under way: the thread lets go of it and serves others", async () => {
  const gone = await backend.guest(createRawDisk(dir, "gone.dsk", 1 << 20));
  gone.put({ op: 1, segments: gone.refs.slice(0, 11).map((gref) => ({ gref })) }, 32);
  backend.hypervisor.destroy(gone.id.domid);
  await backend.pool.disconnect(gone.id);
  await backend.pool.remove(gone.id);
  await backend.pool.forget(gone.id.domid);
  expect(gone.mapped()).toBe(0);
  const next = await backend.guest(createRawDisk(dir, "next.dsk", 1 << 20));
  expect(await next.verdict({ op: 1, segments: [{ gref: next.refs[0]! }] })).toBe(OKAY);
  await backend.pool.remove(next.id);
  expect(backend.errors).toEqual([]);
});
