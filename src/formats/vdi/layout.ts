/** VirtualBox disk images: the header (VirtualBox, VDICore.h, version 1.1; also QEMU's description of it in block/vdi.c). */
import { bytes, constant, count64, guid, reserved, text, u32 } from "../../bytes/field-types.js";
import { at, type Decoded, layout } from "../../bytes/layout.js";

export const VDI_HEADER = layout(
  "VDI header",
  { endian: "le", size: 512, spec: "VirtualBox, VDICore.h, VDIPREHEADER and VDIHEADER1PLUS" },
  {
    text: at(0, text(64), "says who made it, for people"),
    signature: at(64, constant(u32, 0xbeda107f), "identifies the file"),
    version: at(68, u32, "minor number below, major number in the upper 16 bits"),
    headerSize: at(72, u32, "bytes from here on: 384, or 400 with the second geometry"),
    type: at(76, u32, "1 dynamic, 2 static, 3 undo, 4 differencing"),
    flags: at(80, u32, "bit 8: split into 2 GiB files; others are no matter of the layout"),
    comment: at(84, bytes(256), "a comment in UTF-8"),
    mapOffset: at(340, u32, "byte of the block map"),
    dataOffset: at(344, u32, "byte of block 0 of the data"),
    cylinders: at(348, u32, "geometry for old BIOSes"),
    heads: at(352, u32, "geometry"),
    sectors: at(356, u32, "geometry, sectors of a track"),
    sectorSize: at(360, u32, "bytes, 512"),
    unused: at(364, u32, "zero"),
    diskSize: at(368, count64, "bytes of the disk"),
    blockSize: at(376, u32, "bytes of a block, usually 1 MiB"),
    blockExtra: at(380, u32, "bytes before each block's data, 0"),
    blocks: at(384, u32, "entries of the block map"),
    allocatedBlocks: at(388, u32, "blocks that lie in the file"),
    uuid: at(392, guid, "identity of the image"),
    modificationUuid: at(408, guid, "changes with the contents"),
    parentUuid: at(424, guid, "identity of the image beneath; zeros: none"),
    parentModificationUuid: at(440, guid, "what the image beneath had as modificationUuid"),
    rest: at(456, reserved(56), "a second geometry, then zeros"),
  },
);
export type VdiHeader = Decoded<typeof VDI_HEADER>;

export const VDI_TYPE = { dynamic: 1, static: 2, undo: 3, differencing: 4 } as const;

/** Entries of the block map: 32 bits, number of the block in the file, or one of these. */
export const MAP_ABSENT = 0xffff_ffff;
export const MAP_ZEROS = 0xffff_fffe;
export const MAP_ENTRY_SIZE = 4;
/** Entries that fit a map whose numbers are not one of those above. */
export const MAX_BLOCKS = 0xffff_fffd;
export const DEFAULT_BLOCK_SIZE = 1 << 20;
export const VERSION_1_1 = 0x0001_0001;
