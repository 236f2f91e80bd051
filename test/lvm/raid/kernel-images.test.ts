/** Every layout, byte for byte as a Linux kernel put it (fixtures/lvm-raid): data, P and Q of each image. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { extents } from "../support.js";
import { raidWorld } from "./support.js";

interface Expected {
  readonly type: string;
  readonly size: number;
  readonly chunk: number;
  readonly images: readonly string[];
}

const EXPECTED: Record<string, Expected> = JSON.parse(
  readFileSync(new URL("../../../fixtures/lvm-raid/images.json", import.meta.url), "utf8"),
);

function pattern(size: number): Uint8Array {
  const words = Uint32Array.from({ length: size / 4 }, (_, n) => Math.imul(n + 1, 2654435761));
  return new Uint8Array(words.buffer);
}

test.each(Object.entries(EXPECTED))("%s", async (_name, { type, size, chunk, images }) => {
  const legs = images.length;
  const shape =
    type === "raid1"
      ? { mirrors: legs - 1 }
      : { stripeSize: chunk, stripes: type === "raid10" ? legs / 2 : legs - (type.startsWith("raid6") ? 2 : 1) };
  const world = await raidWorld({ type, size: extents(size >> 16), ...shape }, { disks: legs });
  const device = await world.open();
  const contents = pattern(size);
  await device.write(0, contents);
  const back = new Uint8Array(size);
  await device.read(0, back);
  expect(Buffer.compare(back, contents)).toBe(0);
  await device.close();
  const found = images.map((_, leg) =>
    createHash("sha256")
      .update(world.bytesOf(`lv_rimage_${leg}`))
      .digest("hex"),
  );
  expect(found).toEqual(images);
});
