/** A series in one line of text: eight heights, from its smallest value to its largest (Tufte's sparkline; Holman's `spark`). */
const HEIGHTS = '▁▂▃▄▅▆▇█';

/** One character a value; the last `width` of them. Equal values lie in the middle. */
export function sparkline(series: readonly number[], width: number): string {
  const shown = series.slice(-width);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  return shown.map((value) => HEIGHTS[high === low ? 3 : Math.round(((value - low) / (high - low)) * (HEIGHTS.length - 1))]).join('');
}
