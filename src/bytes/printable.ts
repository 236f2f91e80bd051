/** Text that comes from outside (names and labels on a disk, words of a peer) made fit for a terminal, and how wide it is there. */

/** Control characters, line breaks, invisible marks and halves of characters each become a replacement character. */
export function printable(text: string): string {
  if (/^[ -~]*$/.test(text)) return text; // most are: making the sets below takes longer than the rest of a listing
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\ufffd");
}

/** Drawn over two columns: East Asian Width W and F of Unicode's EastAsianWidth.txt, by its blocks. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6b\uff01-\uff60\uffe0-\uffe6\u{16fe0}-\u{18cff}\u{1b000}-\u{1b2ff}\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1faff}\u{20000}-\u{3fffd}]/u;
/** Drawn over the character before them. */
const COMBINING = /[\p{Mn}\p{Me}]/u;

/** Columns of a terminal. */
export function textWidth(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const character of text) width += characterWidth(character);
  return width;
}

function characterWidth(character: string): number {
  return COMBINING.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

/** At most `columns` wide, with blanks up to exactly that. */
export function fitWidth(text: string, columns: number): string {
  let [kept, width] = ["", 0];
  for (const character of text) {
    const wide = characterWidth(character);
    if (width + wide > columns) break;
    kept += character;
    width += wide;
  }
  return kept + " ".repeat(columns - width);
}
