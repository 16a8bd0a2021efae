# SPDX-License-Identifier: MIT
# gnuplot -c pages_burst.gp DATA STEM: resident memory after a burst, as STEM.svg and STEM.png, a plot per setting. DATA
# is what weir-bench-pages writes: per setting a block "milliseconds between decays" baseline, and seconds, MiB.
data = ARG1
stem = ARG2

plots = int(system(sprintf("grep -c '^\"' '%s'", data)))
field(k, n) = system(sprintf("grep '^\"' '%s' | sed -n '%dp' | cut -d '\"' -f %d", data, k + 1, n))
period(k) = field(k, 2)
baseline(k) = field(k, 3) + 0

ink = "#303030"
set border 3 lc rgb "#707070"
set tics nomirror out textcolor rgb ink
set grid ytics lt 1 lc rgb "#e4e4e4" lw 1
set logscale y
set ytics (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
set ylabel "MiB resident" textcolor rgb ink
set xlabel "seconds since all of the burst was freed" textcolor rgb ink
set key at graph 0.98, 0.97 right top textcolor rgb ink samplen 2.5 font ",12"

do for [format in "svg png"] {
    if (format eq "svg") {
        set terminal svg size 480 * plots, 420 font "DejaVu Sans,13" background "white" dynamic
    } else {
        set terminal pngcairo size 720 * plots, 630 font "DejaVu Sans,13" fontscale 1.2 linewidth 1.5 background "white"
    }
    set output stem . "." . format
    set multiplot layout 1, plots margins (plots == 1 ? 0.14 : 0.08), 0.96, 0.15, 0.82 spacing 0.09, 0 \
        title "A burst, and then nothing: memory goes back by itself" font ",14" offset 0, -0.3
    do for [k = 0 : plots - 1] {
        set title sprintf("decay every %s ms", period(k)) textcolor rgb ink font ",13" offset 0, -0.5
        stats data index k using 2 nooutput
        set yrange [0.8 * baseline(k) : 1.5 * STATS_max]
        plot data index k using 1:2 with lines lw 2 lc rgb "#1f5fa8" title "resident", \
             baseline(k) with lines lw 1.3 lc rgb "#909090" title "baseline", \
             1.05 * baseline(k) with lines lw 1.3 dt (6, 4) lc rgb "#b03030" title "5 % above it"
    }
    unset multiplot
    unset output
}
