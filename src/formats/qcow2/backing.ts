/** An overlay and what lies beneath it. */
import { DiskError } from "../../errors.js";
import type { BackingReference, ImageDevice } from "../format.js";
import { withExtension } from "./extensions.js";
import type { Qcow2Image } from "./image.js";
import { EXTENSION } from "./layout.js";
import { writeTables } from "./metadata.js";
import type { OpenedImage } from "./open.js";
import { PointerTable } from "./pointer-table.js";
import { giveUpTables } from "./reached.js";

/** What of a range the image holds itself. */
export async function* ownExtents(
  { image, locator }: OpenedImage,
  offset: number,
  length: number,
): AsyncGenerator<{ offset: number; length: number; own: boolean }> {
  for (let at = offset; at < offset + length; ) {
    const location = await locator.locate(at, offset + length - at);
    const run = Math.min(location.length, offset + length - at);
    const own = location.kind === "zero" ? location.present === true : location.device !== image.backing;
    yield { offset: at, length: run, own };
    at += run;
  }
}

/** The name lies in the first cluster with the rest of the header, so the old or the new one is there after a cut within a sector. */
export async function setBacking(
  image: Qcow2Image,
  backing: (BackingReference & { readonly device: ImageDevice | null }) | null,
): Promise<void> {
  if (backing && image.dataFileIsRaw)
    throw new DiskError("UNSUPPORTED", `Cannot give ${image.label} a backing file: its data file is raw`);
  const extensions = withExtension(image.header.extensions, EXTENSION.backingFormat, backing?.format ?? null);
  await image.metadata.run(async () => {
    await writeTables(image);
    await image.writeHeader({ extensions, backingFile: backing?.name ?? null });
    await image.barrier();
  });
}

/** A new, empty L1 table is written, then the header shows it, then everything that the old one reached is given up. */
export function emptyImage({ image, locator }: OpenedImage): Promise<void> {
  const { geometry } = image;
  return image.changes.run(0, Number.MAX_SAFE_INTEGER, () =>
    image.metadata.run(async () => {
      await writeTables(image);
      const { entries } = image.l1;
      const run = await image.allocator.takeRow(Math.ceil((entries * 8) / geometry.clusterSize));
      const table = new PointerTable(run.first * geometry.clusterSize, new Uint8Array(entries * 8));
      await image.file.write(table.offset, table.bytes);
      await writeTables(image);
      await image.writeHeader({ l1TableOffset: table.offset });
      await image.barrier();
      const old = image.l1;
      image.l1 = table;
      locator.compressed.clear();
      await giveUpTables(image, old);
      await writeTables(image);
    }),
  );
}
