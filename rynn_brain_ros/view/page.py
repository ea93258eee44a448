"""The look and the few interactions of the run report, inline in every report."""

from __future__ import annotations

from rynn_brain_ros.view.colors import PALETTE, REFUSED, Color


def _tint(selector: str, color: Color) -> str:
    rgb = ",".join(map(str, color))
    return f"{selector}{{--c:rgb({rgb});--tint:rgba({rgb},.2);--hot:rgba({rgb},.5)}}\n"


_TINTS = "".join(_tint(f".c{i}", c) for i, c in enumerate(PALETTE)) + _tint(".cx", REFUSED)

STYLE = (
    """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#5d636b;--line:#e2e3e1;
--fill:#f2f2ef;--warn:#a8430a;--warnbg:#fdf1e7;--good:#0b6e4f;
--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans",sans-serif;
--mono:ui-monospace,"SF Mono","Cascadia Mono","DejaVu Sans Mono",Menlo,Consolas,monospace}
@media (prefers-color-scheme:dark){:root{--bg:#15171a;--card:#1c1f23;--ink:#e6e7e9;--soft:#9aa1aa;
--line:#30343a;--fill:#24282d;--warn:#f3a56b;--warnbg:#33241a;--good:#5cc9a0}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 var(--sans)}
body>header,main,body>footer{max-width:1180px;margin:0 auto;padding:0 28px}
body>header{padding-top:44px}
h1{font-size:28px;line-height:1.2;font-weight:650;letter-spacing:-.015em;margin:0}
h2{font-size:19px;line-height:1.35;font-weight:600;margin:2px 0 0;overflow-wrap:anywhere}
h3{font-size:12px;font-weight:600;color:var(--soft);margin:26px 0 8px;letter-spacing:.02em}
p{margin:0}
a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:3px}
code,.mono{font-family:var(--mono);font-size:.87em}
.soft{color:var(--soft)}
.sub{color:var(--soft);font-size:16px;margin-top:6px}
.note,.problems{border-radius:8px;padding:11px 16px;margin-top:20px;background:var(--fill)}
.problems{background:var(--warnbg);color:var(--warn)}
.problems ul{margin:4px 0 0;padding-left:20px}
.tiles{display:flex;flex-wrap:wrap;gap:12px 44px;margin:26px 0 4px}
.tiles b{display:block;font-size:30px;font-weight:600;line-height:1.15;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft);font-size:13px}
.chip{display:inline-block;font:500 12px/1.7 var(--mono);padding:0 8px;border-radius:5px;
background:var(--fill);white-space:nowrap}
.chip.no{background:var(--warnbg);color:var(--warn)}
.chip.ok{color:var(--good)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:0;font-size:13.5px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:500;color:var(--soft);font-size:12px;padding:6px 14px 6px 0;
border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:8px 14px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr>:last-child{padding-right:0}
td.mono{white-space:nowrap;line-height:1.7}
.index td:first-child{width:1%;color:var(--soft)}
.query{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:28px 0;
padding:24px 28px 26px;scroll-margin-top:12px}
.eyebrow{color:var(--soft);font-size:13px;display:flex;flex-wrap:wrap;gap:2px 14px;
align-items:baseline}
.eyebrow a{margin-left:auto}
.look{display:grid;grid-template-columns:minmax(0,3fr) minmax(260px,2fr);gap:0 32px}
figure{margin:0}
figure svg{display:block;width:100%;height:auto;border-radius:8px;background:var(--fill)}
figcaption{font-size:12.5px;color:var(--soft);margin-top:5px}
.keys figure+figure{margin-top:16px}
.strip{display:grid;grid-template-columns:repeat(auto-fill,minmax(108px,1fr));gap:10px 10px}
.strip figure svg{border-radius:5px}
.strip figcaption{font-size:11.5px;line-height:1.4;margin-top:3px}
.strip .key svg{outline:2px solid var(--ink);outline-offset:1px}
.strip .key figcaption{color:var(--ink)}
.look dl{margin-top:2px}
.said{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;font-size:16.5px;
line-height:1.75}
details{margin-top:16px}
summary{cursor:pointer;color:var(--soft);font-size:13.5px}
details .said{font-size:14.5px;margin:10px 0 14px;padding-left:14px;
border-left:2px solid var(--line)}
mark{color:inherit;background:var(--tint);box-shadow:inset 0 -2px var(--c);
border-radius:3px 3px 0 0;padding:2px 3px;
-webkit-box-decoration-break:clone;box-decoration-break:clone}
mark.cx{box-shadow:none;border-bottom:2px dashed var(--c)}
mark.bad{background:none;text-decoration:underline wavy var(--warn);text-underline-offset:4px}
[data-g]{cursor:pointer;transition:opacity .12s}
mark.hot,tr.hot td{background:var(--hot)}
tr.hot td{background:var(--fill)}
svg.over:has(.hot) g[data-g]:not(.hot){opacity:.15}
[data-g]:focus-visible{outline:2px solid var(--c,var(--ink));outline-offset:2px}
.dot{display:inline-block;min-width:20px;height:20px;padding:0 5px;border-radius:5px;
text-align:center;font:600 12px/20px var(--sans);background:var(--tint);
box-shadow:inset 0 0 0 1.5px var(--c);
margin-right:8px}
.cx .dot,.dot.cx{box-shadow:none;outline:1.5px dashed var(--c);outline-offset:-1.5px}
.kind{white-space:nowrap}
.why{max-width:46ch;min-width:22ch}
.over polyline,.over polygon,.over circle{stroke-linejoin:round;stroke-linecap:round}
.over text{font-family:var(--sans);font-weight:600}
.over image,.over use{image-orientation:none}
.store{position:absolute;width:0;height:0;overflow:hidden}
body>footer{color:var(--soft);font-size:12.5px;padding-bottom:40px}
@media screen and (max-width:860px){
body>header,main,body>footer{padding-left:14px;padding-right:14px}
body>header{padding-top:24px}
.query{padding:18px 14px;border-radius:10px}
.look{grid-template-columns:minmax(0,1fr)}
.strip{grid-template-columns:repeat(auto-fill,minmax(84px,1fr))}
table.wide thead{display:none}
table.wide tr{display:block;padding:10px 0;border-bottom:1px solid var(--line)}
table.wide td{display:grid;grid-template-columns:92px minmax(0,1fr);gap:10px;border:0;padding:2px 0;
white-space:normal;overflow-wrap:anywhere}
table.wide td::before{content:attr(data-label);color:var(--soft);font:12px/1.7 var(--sans)}
.why{min-width:0}
}
@media print{
:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#555;--line:#ccc;--fill:#f3f3f3;--warn:#8a3500;
--warnbg:#fbefe6;--good:#0b6e4f;color-scheme:light}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
body{font-size:9.5pt}
table,dl{font-size:8pt}
.said{font-size:11pt}
td,th{padding-right:8px}
.why{min-width:0}
.look{grid-template-columns:minmax(0,3fr) minmax(0,2fr);gap:0 20px}
.strip{grid-template-columns:repeat(auto-fill,minmax(76px,1fr))}
body>header,main,body>footer{max-width:none;padding-left:0;padding-right:0}
.query{border:0;border-top:1px solid var(--line);border-radius:0;padding:16px 0}
.eyebrow a{display:none}
figure,tr,.problems,.note{break-inside:avoid}
h2,h3,.eyebrow,.strip{break-after:avoid}
}
"""
    + _TINTS
)

SCRIPT = """
const same = g => document.querySelectorAll('[data-g="' + g + '"]');
const owner = e => e.target instanceof Element ? e.target.closest('[data-g]') : null;
const show = (e, on) => {
  const n = owner(e);
  if (n) same(n.dataset.g).forEach(m => m.classList.toggle('hot', on || m.dataset.pin === '1'));
};
for (const t of ['mouseover', 'focusin']) document.addEventListener(t, e => show(e, true));
for (const t of ['mouseout', 'focusout']) document.addEventListener(t, e => show(e, false));
const pin = e => {
  const n = owner(e);
  if (n) {
    const on = n.dataset.pin === '1' ? '' : '1';
    same(n.dataset.g).forEach(m => { m.dataset.pin = on; m.classList.toggle('hot', on === '1'); });
  }
};
document.addEventListener('click', pin);
document.addEventListener('keydown', e => { if (e.key === 'Enter') pin(e); });
addEventListener('beforeprint', () =>
  document.querySelectorAll('details').forEach(d => { d.open = true; }));
"""
