/** XSA-216 (CVE-2017-10911): padding of responses showed what was in the backend's memory. */
import { expect, test } from "vitest";
import { ABIS } from "#src/xen/blkif/layout.js";
import { rawFrontend, settle } from "../xen/raw-frontend.js";

test.each(Object.values(ABIS).map((abi) => [abi.protocol, abi] as const))(
  "%s: of a slot only id, operation and status change, and the byte between them is zero",
  async (_name, abi) => {
    const front = rawFrontend({ abi, pages: 2 });
    const back = front.connect();
    for (let slot = 0; slot < front.size; slot++) {
      const known = slot % 2 === 0;
      front.put({ op: known ? 3 : 77, id: 0x0102_0304_0506_0708n });
      const bytes = () => Array.from({ length: abi.stride }, (_, i) => front.ring.getUint8(front.slotAt(slot) + i));
      const request = bytes();
      await settle(back);
      const response = [8, 7, 6, 5, 4, 3, 2, 1, known ? 3 : 77, 0, known ? 0 : 0xfe, known ? 0 : 0xff];
      expect(bytes()).toEqual([...response, ...request.slice(12)]);
    }
    await back.close();
  },
);
