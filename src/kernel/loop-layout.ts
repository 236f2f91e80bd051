/** What the kernel's loop and partition ioctls take: linux/loop.h, linux/blkpg.h. In the machine's byte order, little-endian here. */
import { bytes, count64, reserved, s32, text, u32, u64 } from "../bytes/field-types.js";
import { at, layout } from "../bytes/layout.js";

export const LOOP_IOCTL = {
  CLR_FD: 0x4c01,
  GET_STATUS64: 0x4c05,
  SET_CAPACITY: 0x4c07,
  /** Linux 5.8. */
  CONFIGURE: 0x4c0a,
  /** Of /dev/loop-control. */
  CTL_GET_FREE: 0x4c82,
} as const;

export const LO_FLAGS = { READ_ONLY: 1, AUTOCLEAR: 4, PARTSCAN: 8, DIRECT_IO: 16 } as const;

export const BLKPG = 0x1269;
export const BLKPG_OP = { ADD_PARTITION: 1, DEL_PARTITION: 2, RESIZE_PARTITION: 3 } as const;

export const LOOP_CONFIG = layout(
  "loop configuration",
  { endian: "le", size: 304, spec: "linux/loop.h, loop_config with loop_info64" },
  {
    fd: at(0, u32, "descriptor of the backing file"),
    blockSize: at(4, u32, "bytes of a logical block"),
    device: at(8, u64, "filled in by the kernel: device of the backing file"),
    inode: at(16, u64, "filled in by the kernel"),
    rdevice: at(24, u64, "filled in by the kernel"),
    offset: at(32, count64, "bytes of the file that are left out"),
    sizeLimit: at(40, count64, "bytes, 0: to the file's end"),
    number: at(48, u32, "filled in by the kernel"),
    encryption: at(52, reserved(8), "no more in use"),
    flags: at(60, u32, "LO_FLAGS"),
    fileName: at(64, text(64), "for LOOP_GET_STATUS64"),
    cryptName: at(128, reserved(64), "no more in use"),
    key: at(192, reserved(32), "no more in use"),
    init: at(224, reserved(16), "no more in use"),
    reserved: at(240, reserved(64), "0"),
  },
);

export const BLKPG_ARGUMENT = layout(
  "BLKPG argument",
  { endian: "le", size: 24, spec: "linux/blkpg.h, blkpg_ioctl_arg" },
  {
    op: at(0, s32, "BLKPG_OP"),
    flags: at(4, s32, "0"),
    dataLength: at(8, s32, "bytes of the partition's structure"),
    padding: at(12, reserved(4), "0"),
    data: at(16, u64, "address of the partition's structure"),
  },
);

export const BLKPG_PARTITION = layout(
  "BLKPG partition",
  { endian: "le", size: 152, spec: "linux/blkpg.h, blkpg_partition" },
  {
    start: at(0, count64, "bytes"),
    length: at(8, count64, "bytes"),
    number: at(16, s32, "of the partition"),
    names: at(20, bytes(128), "not used by the kernel"),
    padding: at(148, reserved(4), "0"),
  },
);
