/** The report's style sheet: light and dark by the reader's setting, colours that people with any colour vision tell apart (after Okabe and Ito 2008). */
export const style = `
:root { color-scheme: light dark;
  --ground: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #6b6862; --line: #e6e2db; --faint: #f3f0ea; --accent: #b4541a;
  --original: #1d1c1a; --quantize: #0072b2; --prune: #d55e00; --factorize: #009e73; --distill: #aa4499; --lora: #b8860b; --several: #5a4fcf; --other: #6b6862; --good: #1a7f4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #171614; --card: #201f1c; --ink: #edeae4; --soft: #a09b92; --line: #37342f; --faint: #292723; --accent: #f0955a;
  --original: #edeae4; --quantize: #56b4e9; --prune: #f28e4b; --factorize: #2fc59a; --distill: #d98cc9; --lora: #e2b93b; --several: #a79ff5; --other: #a09b92; --good: #5fcf94; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; font-variant-numeric: tabular-nums; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 6px; font-weight: 680; }
h2 { font-size: 19px; letter-spacing: -0.01em; margin: 44px 0 4px; font-weight: 650; }
h1 + h2 { margin-top: 18px; }
p { margin: 0; max-width: 72ch; }
a { color: inherit; }
.soft { color: var(--soft); }
.brand { display: flex; align-items: baseline; gap: 10px; margin-bottom: 26px; font-size: 13px; color: var(--soft); }
.brand b { color: var(--accent); font-size: 16px; letter-spacing: -0.01em; }
.findings { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 12px; margin: 18px 0 0; }
.finding { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px 13px; }
.finding .what { color: var(--soft); font-size: 13px; }
.finding .figure { font-size: 27px; font-weight: 660; letter-spacing: -0.02em; line-height: 1.25; }
.finding .who { font-size: 13px; overflow-wrap: anywhere; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 14px 0 0; }
.views { padding: 12px 16px 8px; }
.views > input { position: absolute; opacity: 0; pointer-events: none; }
.views > .tabs { display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: center; font-size: 13px; }
.tabs .set { display: inline-flex; background: var(--faint); border-radius: 8px; padding: 3px; }
.tabs label { padding: 3px 11px; border-radius: 6px; cursor: pointer; color: var(--soft); }
.view { display: none; overflow-x: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; color: var(--soft); margin-left: auto; }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
.legend svg { width: 14px; height: 14px; overflow: visible; }
.chart { display: block; width: 100%; min-width: 640px; height: auto; margin-top: 8px; }
.chart text { font-family: inherit; fill: var(--ink); font-size: 13px; }
.chart .tick, .chart .axis { fill: var(--soft); font-size: 12px; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .band { fill: var(--ink); opacity: 0.055; }
.chart .level { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 4 4; }
.chart .front { fill: none; stroke: var(--accent); stroke-width: 1.5; opacity: 0.55; }
.whisker { fill: none; stroke: currentColor; stroke-width: 1.4; opacity: 0.5; }
.mark { fill: currentColor; stroke: var(--card); stroke-width: 1.5; }
.mark.ring { fill: var(--card); stroke: currentColor; stroke-width: 2.5; }
.chart .label { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.point:hover .label { font-weight: 650; }
.s-original { color: var(--original); } .s-quantize { color: var(--quantize); } .s-prune { color: var(--prune); } .s-factorize { color: var(--factorize); }
.s-distill { color: var(--distill); } .s-lora { color: var(--lora); } .s-several { color: var(--several); } .s-other { color: var(--other); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 9px 12px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: baseline; }
th { color: var(--soft); font-weight: 500; font-size: 12.5px; }
th:first-child, td:first-child { text-align: left; padding-left: 18px; white-space: normal; min-width: 190px; }
th:last-child, td:last-child { padding-right: 18px; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr.first td { background: var(--faint); }
td .name { font-weight: 600; overflow-wrap: anywhere; }
td .how { display: block; color: var(--soft); font-size: 12.5px; overflow-wrap: anywhere; }
td .more { display: block; color: var(--soft); font-size: 12.5px; }
.dot { width: 10px; height: 10px; margin-right: 8px; overflow: visible; vertical-align: -0.5px; }
td .more.good { color: var(--good); } td .more.bad { color: var(--bad); } td .best { font-weight: 680; }
details { border-top: 1px solid var(--line); padding: 0 18px; }
details:first-child { border-top: 0; }
summary { cursor: pointer; padding: 11px 0; display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary::after { content: "+"; margin-left: auto; color: var(--soft); font-size: 17px; line-height: 1; }
details[open] summary::after { content: "–"; }
summary .name { font-weight: 600; }
.steps { margin: 0 0 14px; padding: 0; list-style: none; }
.steps > li { padding: 2px 0 8px; }
.notes { margin: 4px 0 0; padding-left: 18px; color: var(--soft); font-size: 13.5px; }
code, pre { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--faint); border-radius: 8px; padding: 10px 12px; margin: 0 0 14px; overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 14px 0 0; padding: 14px 18px; font-size: 13.5px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 40px; color: var(--soft); font-size: 13px; }
@media (max-width: 640px) { main { padding: 24px 14px 40px; } .legend { margin-left: 0; } }
@media print { body { background: none; } .card, .finding { break-inside: avoid; } }
`;
