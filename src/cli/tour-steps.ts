/** The tour's story: real commands in order, each with a line that says why. */

export interface TourStep {
  /** One line before the command. */
  readonly why: string;
  readonly args: readonly string[];
  /** Exit code that the story expects; default 0. */
  readonly code?: number;
  /** Program that the command needs; the step is told and left out where it is missing. */
  readonly needs?: string;
  /** Lines of the output to show, from its begin; default all. */
  readonly show?: number;
}

/** `tree`: a directory of this machine that becomes the contents of a file system. */
export function tourSteps(tree: string): readonly TourStep[] {
  return [
    { why: "A guest's disk of 2 GiB. It is sparse: it takes no space yet.", args: ["create", "guest.dsk", "2G"] },
    { why: "A partition table, and four of up to fifteen partitions.", args: ["part", "init", "guest.dsk", "gpt"] },
    { why: "", args: ["part", "add", "guest.dsk", "--size", "256M", "--type", "efi", "--name", "boot"] },
    { why: "", args: ["part", "add", "guest.dsk", "--size", "1G", "--type", "linux", "--name", "root"] },
    { why: "", args: ["part", "add", "guest.dsk", "--size", "128M", "--type", "swap", "--name", "swap"] },
    { why: "", args: ["part", "add", "guest.dsk", "--size", "256M", "--type", "linux", "--name", "data"] },
    {
      why: `A real file system on partition 2, filled with ${tree} of this machine. No root, no loop device.`,
      args: ["mkfs", "guest.dsk#p2", "ext4", "--label", "root", "--from", tree],
      needs: "mke2fs",
    },
    { why: "The disk, drawn to scale.", args: ["part", "list", "guest.dsk"] },
    {
      why: "Attach it: blkfront in the guest's thread, blkback in Dom0's, a real Xen ring between. A Dom0 starts by itself.",
      args: ["attach", "guest.dsk"],
    },
    {
      why: "Write and read through the ring.",
      args: ["io", "dom:0/xvda", "-c", "write -P 0xa5 1900M 1M", "-c", "flush", "-c", "read -P 0xa5 1900M 1M"],
    },
    { why: "Both ends are Connected, and have counted the requests.", args: ["list"] },
    {
      why: "While it is attached, nobody else gets at the file.",
      args: ["io", "guest.dsk", "-c", "write 0 4k"],
      code: 1,
    },
    { why: "", args: ["detach", "xvda"] },
    { why: "A copy, read back and compared.", args: ["clone", "guest.dsk", "copy.dsk", "--verify"] },
    {
      why: "A second copy that can be used beside the first: new identifiers for table, partitions and file systems.",
      args: ["clone", "guest.dsk", "twin.dsk", "--new-ids"],
      show: 8,
    },
    {
      why: "Now damage the disk: its first megabyte is gone, the table with it.",
      args: ["io", "guest.dsk", "-c", "write -P 0xdb 0 1M"],
    },
    { why: "", args: ["compare", "guest.dsk", "copy.dsk"], code: 1 },
    { why: "Bring it back from the copy.", args: ["clone", "copy.dsk", "guest.dsk", "--force"] },
    { why: "", args: ["compare", "guest.dsk", "copy.dsk"] },
    { why: "", args: ["info", "guest.dsk"] },
  ];
}
