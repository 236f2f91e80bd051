/** XSA-350 (CVE-2020-29569): connecting and disconnecting in quick turns left the backend with what it had let go. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { BlkfrontRings } from "#src/xen/blkfront-rings.js";
import { frontendKeys } from "#src/xen/blkif/features.js";
import { BACKEND, FRONTEND, splitHost } from "../xen/split-host.js";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("any sequence of states ends in Closed with nothing mapped, and the next frontend connects", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ state: fc.integer({ min: 0, max: 8 }), turns: fc.integer({ min: 0, max: 12 }) }), {
        maxLength: 30,
      }),
      async (sequence) => {
        const host = await splitHost(1 << 20);
        await host.startBlkback();
        const rings = new BlkfrontRings(host.guest, 0, { queues: 2, pageOrder: 1 });
        const say = (state: number) => host.guestStore.write(`${FRONTEND}/state`, String(state));
        const heard = async (state: number) => {
          while ((await host.store.readOrNull(`${BACKEND}/state`)) !== String(state)) await turn();
        };
        const attaching = host.attach();
        await heard(2);
        const keys = frontendKeys({ protocol: "x86_64-abi", persistent: true, rings: rings.queues });
        for (const [key, value] of Object.entries(keys))
          await host.guestStore.write(`${FRONTEND}/${key}`, String(value));
        await say(3);
        await heard(4);
        await say(4);
        await attaching;
        for (const { state, turns } of sequence) {
          await say(state);
          for (let i = 0; i < turns; i++) await turn();
        }
        await say(6);
        await heard(6);
        expect(host.dom0.foreign.mapped).toBe(0);
        expect(host.queues()).toEqual([]);
        await say(1);
        await heard(2);
        await say(3);
        await heard(4);
        expect(host.dom0.foreign.mapped).toBe(4);
        await say(6);
        await heard(6);
        rings.close("closed by the test");
        await host.stop();
      },
    ),
    { numRuns: 30 },
  ));
