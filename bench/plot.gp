# SPDX-License-Identifier: MIT
# gnuplot -c plot.gp DATA STEM: pages in use over time, as STEM.svg and STEM.png. DATA is what weir-bench
# writes: for each case a block "milliseconds, pages in use, of them idle in the cache, workers", and one of
# barriers.
data = ARG1
stem = ARG2
fraction = system(sprintf("echo '%s' | sed 's/.*-//'", stem))

stats data using 1 nooutput name "ALL"
cases = int(ALL_blocks / 2)

ink = "#303030"
set style line 1 lc rgb "#1f5fa8" lw 1.4
set style line 2 lc rgb "#f2b866"
set style line 3 lc rgb "#b03030" lw 1.4 dt (8, 5)
set border 3 lc rgb "#707070"
set tics nomirror out textcolor rgb ink
set grid ytics lt 1 lc rgb "#e4e4e4" lw 1
set ylabel "pages of 4 KiB" textcolor rgb ink
set xlabel "milliseconds since the first round began" textcolor rgb ink
set format y "%.0s%c"
set key outside top right horizontal samplen 2.5 width -3 textcolor rgb ink
set lmargin 11
set rmargin 4

do for [format in "svg png"] {
    if (format eq "svg") {
        set terminal svg size 960, 60 + 320 * cases font "DejaVu Sans,13" background "white" dynamic
    } else {
        set terminal pngcairo size 1440, 90 + 480 * cases \
            font "DejaVu Sans,13" fontscale 1.2 linewidth 1.5 background "white"
    }
    set output stem . "." . format
    set multiplot layout cases, 1 \
        title "Pages in use over three rounds of deferred free, high\\\_fraction " . fraction . "\n" font ",15"
    do for [i = 0 : cases - 1] {
        set autoscale
        unset arrow
        stats data index 2 * i using 1 nooutput name "TIME"
        stats data index 2 * i using 2 nooutput name "PAGES"
        stats data index 2 * i using 4 nooutput name "WORKERS"
        stats data index 2 * i + 1 using 2 nooutput name "BARRIERS"
        do for [k = 0 : int(BARRIERS_records) - 1] {
            stats data index 2 * i + 1 every ::k::k using 2 nooutput name "END"
            set arrow from END_min, graph 0 to END_min, graph 1 nohead ls 3
        }
        set xrange [0 : TIME_max > BARRIERS_max ? TIME_max : BARRIERS_max]
        set yrange [0 : PAGES_max * 1.08]
        set label 1 (WORKERS_max == 1 ? "one worker" : sprintf("%d workers", int(WORKERS_max))) \
            at graph 0, 1.06 left textcolor rgb ink font ",14"
        plot data index 2 * i using 1:3 with filledcurves y1=0 ls 2 title "of them idle in the cache", \
             data index 2 * i using 1:2 with lines ls 1 title "all that are in use", \
             NaN with lines ls 3 title "end of a barrier"
    }
    unset multiplot
    unset output
}
