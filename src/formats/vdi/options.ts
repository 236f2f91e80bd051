/** The keys of `-o`, as qemu-img names them. */
import { switchOption } from "../options.js";

export const STATIC = switchOption("static", "every block has its place from the start");
