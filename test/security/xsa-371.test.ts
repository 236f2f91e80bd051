/** XSA-371 (CVE-2021-28688): after a mapping that failed, persistent grants of the same request leaked. */
import { expect, test } from "vitest";
import { GNTST } from "#src/xen/platform/platform.js";
import { seededRandom } from "../partitions/support.js";
import { ERROR, OKAY, rawFrontend, settle } from "../xen/raw-frontend.js";

test("requests with failures anywhere, in any order: at the end every grant is the frontend's again", async () => {
  const random = seededRandom();
  const pick = (count: number) => new DataView(random(4).buffer).getUint32(0) % count;
  let failEvery = 0;
  let maps = 0;
  const front = rawFrontend({
    persistent: true,
    foreign: (real) => ({
      map: (...of) => (failEvery > 0 && ++maps % failEvery === 0 ? GNTST.general_error : real.map(...of)),
    }),
  });
  const back = front.connect();
  const refs = Array.from({ length: 400 }, (_, i) =>
    front.guest.grants.grantAccess(0, front.data.firstFrame + (i % 256), false),
  );
  let failed = 0;
  for (let i = 0; i < 600; i++) {
    failEvery = pick(3) === 0 ? 1 + pick(12) : 0;
    const segments = Array.from({ length: 1 + pick(11) }, () => ({ gref: refs[pick(400)]!, first: 0, last: 7 }));
    const index = front.rspProd();
    front.put({ op: pick(2), segments, sector: BigInt(pick(100)) });
    await settle(back);
    const { status } = front.response(index);
    expect([OKAY, ERROR]).toContain(status);
    if (status === ERROR) failed++;
    if (i % 50 === 49) back.grants.dropUnused(i * 1000);
    expect(front.dom0.foreign.mapped).toBe(1 + back.grants.kept);
  }
  expect(failed).toBeGreaterThan(20);
  await back.close();
  expect(front.dom0.foreign.mapped).toBe(0);
  for (const ref of refs) expect(front.guest.grants.endAccess(ref)).toBe(true);
});
