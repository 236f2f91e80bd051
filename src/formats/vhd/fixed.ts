/** A fixed VHD: the disk's bytes as they are, and a footer behind them. */
import type { HostFile } from "../../block/host-file.js";
import { mapDevice } from "../../block/mapped.js";
import { formatUuid } from "../../bytes/guid.js";
import type { ResizableImage } from "../extensions.js";
import { PLAIN_FACTS, withFacts } from "../format.js";
import { geometryFor, visibleSize } from "./geometry.js";
import { encodeFooter, SECTOR, type VhdFooter } from "./layout.js";

export function openFixed(file: HostFile, footer: VhdFooter): ResizableImage {
  let current = footer;
  const device = mapDevice({
    label: `vhd ${file.label}`,
    get size() {
      return visibleSize(current);
    },
    blockSize: 1,
    writable: file.writable,
    locate: (offset) => ({ kind: "data", device: file, offset, length: visibleSize(current) - offset, shared: false }),
    flush: () => file.flush(),
    close: () => file.close(),
  });
  return Object.assign(
    withFacts(device, () => ({ ...PLAIN_FACTS, identity: formatUuid(current.uuid) })),
    {
      /**
       * Larger: the new footer is written behind the new end before the old one goes. Smaller: it is written over data that is given
       * up, then the file is cut behind it. Between the two the file has a footer within, and at its end the old one.
       */
      async resize(size: number) {
        const next = { ...current, originalSize: size, currentSize: size, ...geometryFor(size) };
        const [before, grows] = [visibleSize(current), size > visibleSize(current)];
        if (grows) {
          await file.resize(size + SECTOR);
          await file.write(size, encodeFooter(next));
          await file.flush();
          await file.zero(before, SECTOR);
        } else {
          await file.write(size, encodeFooter(next));
          await file.flush();
          await file.resize(size + SECTOR);
        }
        await file.flush();
        current = next;
      },
    },
  );
}
