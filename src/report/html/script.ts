/**
 * What the page does with a script: tables sort, a case that is linked to opens, and paper shows every case. Without one all of it is
 * there to read. Plain text, since it runs in the reader's browser.
 */
export const SCRIPT = `
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const valueOf = (cell) => cell.classList.contains('number') ? ('order' in cell.dataset ? Number(cell.dataset.order) : NaN) : cell.textContent;
  const compare = (a, b) => typeof a === 'number' ? a - b : a < b ? -1 : a > b ? 1 : 0;
  heads.forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
      for (const other of heads) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const rows = [...body.rows].map((row) => ({ row, value: valueOf(row.cells[column]) }));
      const missing = (entry) => Number.isNaN(entry.value) ? 1 : 0;
      rows.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a.value, b.value)));
      body.append(...rows.map(({ row }) => row));
    });
  });
}
const openLinked = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener('hashchange', openLinked);
openLinked();
addEventListener('beforeprint', () => { for (const details of document.querySelectorAll('details.case')) details.open = true; });
`;
