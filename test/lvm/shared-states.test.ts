/** What volumes share: made once, closed with its last user, kept from others by a lock. */
import { expect, test } from "vitest";
import { DiskError } from "#src/errors.js";
import { SharedStates } from "#src/lvm/shared-states.js";
import { addVolume, extents, valueGroup } from "./support.js";

const group = addVolume(valueGroup([4]), "pool", { size: extents(1) });
const volume = group.logicalVolumes[0]!;

function recorded() {
  const events: string[] = [];
  let locked = false;
  const states = new SharedStates(async () => {
    if (locked) throw new DiskError("DENIED", "Cannot lock");
    locked = true;
    events.push("lock");
    return {
      release: async () => {
        locked = false;
        events.push("release");
      },
    };
  });
  const make = async () => {
    events.push("make");
    return {
      close: async () => {
        events.push("close");
      },
    };
  };
  return { states, events, make };
}

test("two users have one state; the last of them closes it, and then its lock goes", async () => {
  const { states, events, make } = recorded();
  const [a, b] = await Promise.all([states.hold(group, volume, true, make), states.hold(group, volume, true, make)]);
  expect(a.state).toBe(b.state);
  await a.release();
  await a.release();
  expect(events).toEqual(["lock", "make"]);
  const again = states.hold(group, volume, true, make);
  await b.release();
  expect((await again).state).toBe(a.state);
  await (await again).release();
  expect(events).toEqual(["lock", "make", "close", "release"]);
});

test("whoever comes while it is being closed gets a new one", async () => {
  const { states, events, make } = recorded();
  const first = await states.hold(group, volume, true, make);
  const [, second] = await Promise.all([first.release(), states.hold(group, volume, false, make)]);
  expect(second.state).not.toBe(first.state);
  expect(events).toEqual(["lock", "make", "close", "release", "lock", "make"]);
  await expect(states.hold(group, volume, true, make)).rejects.toMatchObject({ code: "DENIED" });
});

test("a state that cannot be made is nobody's, and leaves no lock", async () => {
  const { states, events, make } = recorded();
  const failing = () => Promise.reject(new DiskError("CORRUPT", "Cannot open pool"));
  await expect(states.hold(group, volume, true, failing)).rejects.toMatchObject({ code: "CORRUPT" });
  await states.hold(group, volume, true, make);
  expect(events).toEqual(["lock", "release", "lock", "make"]);
});
