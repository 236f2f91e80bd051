/** What of a range an overlay holds itself, told from where it locates the bytes. */
import type { Mapping } from "../block/mapped.js";

export async function* ownExtents(
  mapping: Pick<Mapping, "locate">,
  offset: number,
  length: number,
): AsyncGenerator<{ offset: number; length: number; own: boolean }> {
  for (let done = 0; done < length; ) {
    const location = await mapping.locate(offset + done, length - done);
    const part = Math.min(location.length, length - done);
    const own = location.kind === "data" ? !location.shared : location.present === true;
    yield { offset: offset + done, length: part, own };
    done += part;
  }
}
