/** The page's style sheet: light, dark and paper, from a phone's width up. */

const LIGHT = `
  --paper: #fff; --ink: #1d2329; --faint: #5a6570; --line: #d9dee3; --panel: #f5f7f9; --accent: #0b61a4; --bad: #b3261e; --doubt: #8a5a00;
  --series-0: #0b61a4; --series-1: #c4450c; --series-2: #1b7f4b; --series-3: #8a3ab9; --series-4: #96700a; --series-5: #c2185b; --series-6: #00798c; --series-7: #59636e;`;

const DARK = `
  --paper: #14181d; --ink: #e4e8ec; --faint: #a0abb6; --line: #343c45; --panel: #1c2229; --accent: #6cb6ff; --bad: #ff8a80; --doubt: #f2cc60;
  --series-0: #6cb6ff; --series-1: #ff9e64; --series-2: #7ee2a8; --series-3: #d2a8ff; --series-4: #e6c04a; --series-5: #ff8fb1; --series-6: #5fd7e5; --series-7: #b6bfc8;`;

export const STYLE = `
:root { color-scheme: light dark;${LIGHT} }
@media screen and (prefers-color-scheme: dark) { :root {${DARK} } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1500px; padding: 0 1rem 3rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 1.2rem 0 0.2rem; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 2.2rem 0 0.6rem; padding-bottom: 0.2rem; border-bottom: 1px solid var(--line); font-size: 1.25rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; margin: 1rem 0; padding: 0; list-style: none; }
.lead, .caption, .cases { color: var(--faint); }
.lead { margin: 0 0 0.8rem; overflow-wrap: anywhere; }
.caption { margin: 0.4rem 0 0; font-size: 0.82rem; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); gap: 0.7rem 1.5rem; margin: 0; }
dt { color: var(--faint); font-size: 0.8rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.84rem; line-height: 1.35; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: 0.3rem 0.55rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { vertical-align: bottom; border-bottom-width: 2px; }
tbody th { min-width: 12rem; font-weight: 400; overflow-wrap: anywhere; }
td:not(.number) { min-width: 7rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.baseline { background: var(--panel); }
thead button { padding: 0; border: 0; background: none; color: inherit; font: inherit; text-align: inherit; text-decoration: underline dotted; text-underline-offset: 0.2em; cursor: pointer; }
[aria-sort=ascending] button::after { content: ' ↑'; }
[aria-sort=descending] button::after { content: ' ↓'; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); gap: 1.4rem 1.8rem; align-items: start; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figcaption { margin-bottom: 0.3rem; font-size: 0.9rem; font-weight: 600; overflow-wrap: anywhere; }
figure svg { display: block; width: 100%; max-width: 520px; height: auto; overflow: visible; }
svg text { white-space: pre; }
.legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; margin: 0 0 1rem; padding: 0; list-style: none; font-size: 0.84rem; }
.legend li { display: flex; align-items: center; gap: 0.4rem; overflow-wrap: anywhere; min-width: 0; }
.legend svg { flex: none; }
.remarks { margin: 0; padding: 0; list-style: none; }
.remarks > li { margin: 0.5rem 0; padding: 0.4rem 0.8rem; border-left: 4px solid var(--line); background: var(--panel); overflow-wrap: anywhere; }
.remarks p { margin: 0; }
.remarks .warning, .remarks .skipped, .remarks .aborted { border-color: var(--doubt); }
.remarks .failed { border-color: var(--bad); }
.remarks strong { text-transform: capitalize; }
.cases { font-size: 0.82rem; }
.case { margin: 0.6rem 0; padding: 0.5rem 0.8rem; border: 1px solid var(--line); border-radius: 6px; break-inside: avoid; }
.case > summary { cursor: pointer; overflow-wrap: anywhere; }
.case .charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 370px), 520px)); margin-top: 0.8rem; }
footer { margin-top: 2.5rem; color: var(--faint); font-size: 0.82rem; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media (max-width: 600px) { body { padding: 0 0.7rem 2rem; } th, td { padding: 0.3rem 0.45rem; } tbody th { min-width: 9rem; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  thead button { text-decoration: none; }
  .scroll { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.15rem 0.3rem; }
  tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .charts, .case .charts { grid-template-columns: 1fr 1fr; gap: 1rem; }
}
`;
